# What is made from nothing rather than kept by hand. Tests and checks need no make: see the README.

BUILD ?= build/reference
PHANTOM = mxbatch phantom --prevalence 0.6 --most-findings 16

# The model that `mxbatch score` uses unless another is named: phantoms, a training of half an hour on two cores, and
# the measurement on phantoms of another seed that engine/reference/MODEL_CARD.md and docs/training.md quote.
.PHONY: reference
reference:
	$(PHANTOM) $(BUILD)/phantoms --specimens 10000 --seed 1 --size 560
	$(PHANTOM) $(BUILD)/unseen --specimens 400 --seed 2
	mxbatch train cae_mv --archive $(BUILD)/phantoms --out $(BUILD)/bundle --licence Apache-2.0
	mxbatch evaluate $(BUILD)/bundle --archive $(BUILD)/unseen --out $(BUILD)/evaluation
	rm -rf engine/reference && cp -r $(BUILD)/bundle engine/reference
