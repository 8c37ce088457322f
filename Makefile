# What is made from nothing rather than kept by hand. Tests and checks need no make: see the README.

BUILD ?= build/reference
PHANTOM = mxbatch phantom --prevalence 0.6 --most-findings 16

# The model that `mxbatch score` uses unless another is named: phantoms, a training of half an hour on two cores, and
# the measurement on phantoms of another seed that engine/reference/MODEL_CARD.md and docs/training.md quote.
.PHONY: reference
reference:
	$(PHANTOM) $(BUILD)/phantoms --specimens 24000 --seed 1 --size 560
	$(PHANTOM) $(BUILD)/unseen --specimens 400 --seed 2
	mxbatch train cae_mv --epochs 6 --archive $(BUILD)/phantoms --out $(BUILD)/bundle --licence Apache-2.0
	mxbatch evaluate $(BUILD)/bundle --archive $(BUILD)/unseen --out $(BUILD)/evaluation
	mxbatch evaluate $(BUILD)/bundle --archive $(BUILD)/unseen --out $(BUILD)/evaluation-truth --truth
	mxbatch evaluate $(BUILD)/bundle --archive $(BUILD)/unseen --out $(BUILD)/evaluation-dv --view dv
	mxbatch evaluate $(BUILD)/bundle --archive $(BUILD)/unseen --out $(BUILD)/evaluation-lv --view lv
	rm -rf engine/reference && cp -r $(BUILD)/bundle engine/reference

# The table of backbones and views in docs/training.md: three epochs each over one split, 40 minutes on two cores.
TABLE = $(BUILD)/table
OTHERS = cae_direct_mv convnext_mv cae_dv cae_lv convnext_dv convnext_lv
.PHONY: table
table:
	$(PHANTOM) $(TABLE)/phantoms --specimens 10000 --seed 1 --size 560
	mxbatch train cae_mv --epochs 3 --archive $(TABLE)/phantoms --out $(TABLE)/cae_mv
	set -e; for recipe in $(OTHERS); do \
	  mxbatch train $$recipe --epochs 3 --archive $(TABLE)/phantoms --out $(TABLE)/$$recipe \
	    --split $(TABLE)/cae_mv-run/split.csv; done
	mxbatch evaluate $(addprefix $(TABLE)/,cae_mv $(OTHERS)) --archive $(TABLE)/phantoms \
	  --split $(TABLE)/cae_mv-run/split.csv --out $(TABLE)/evaluation
