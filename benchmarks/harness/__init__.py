"""The harness that the benchmarks share, so that each of them holds only what it measures.

To add a benchmark beside a peer (as speed, optimizer and importance are), write

* contenders: what is compared, behind one interface;
* a worker: a `Session` (worker.py) whose methods answer the conductor's requests in the contender's own process;
* a conductor: a `Conductor` (conductor.py) with a method for each section, which asks the workers in turn and adds
  to its results;
* a `Program` (program.py), which is the command line: options, files, errors, the table and the picture.

A contender is added to the contenders of its benchmark alone. A study of arms by seeds (as those in
`benchmarks.studies`) needs no conductor: runs.py does its runs and finds their results.
records.py has the statistics, bounds and tables, style.py what the pictures share.
"""
