"""What several test files share: small problems, tables of variants, assertions, programs to run and kill."""
