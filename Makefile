# What is made from nothing rather than kept by hand. Tests and checks need no make: see the README.

BUILD ?= build/reference
# Crowded: every class in half of the affected lines.
CROWD = mxbatch phantom --prevalence 0.6 --class-share 0.5
PHANTOMS = $(BUILD)/phantoms
FEW = $(BUILD)/few
# 400 animals are some twenty lines: what one seed says, the next one says otherwise. So five.
UNSEEN = 11 12 13 14 15

# 20,000 phantoms to learn from, 13 minutes of two cores: seven of ten affected lines are crowded, so that there is enough of
# each class, and the others have one finding mostly, as real ones do. And 1,500 of another seed to measure on, all like those.
$(PHANTOMS):
	$(CROWD) $(PHANTOMS) --crowded 0.7 --specimens 20000 --seed 1 --size 480
$(FEW):
	mxbatch phantom $(FEW) --specimens 1500 --seed 2 --prevalence 0.6
$(BUILD)/unseen-%:
	$(CROWD) $@ --specimens 400 --seed $*

# The model that `mxbatch score` uses unless another is named: a training of 55 minutes on one core, and what docs/training.md
# quotes of it.
$(BUILD)/cae_mv: trainer/recipes/cae_mv.toml | $(PHANTOMS)
	mxbatch train cae_mv --archive $(PHANTOMS) --out $(BUILD)/cae_mv --licence Apache-2.0
.PHONY: reference
reference: $(BUILD)/cae_mv $(FEW) $(addprefix $(BUILD)/unseen-,$(UNSEEN))
	set -e; for seed in $(UNSEEN); do \
	  mxbatch evaluate $(BUILD)/cae_mv --archive $(BUILD)/unseen-$$seed --out $(BUILD)/evaluation-$$seed; done
	mxbatch evaluate $(BUILD)/cae_mv --archive $(BUILD)/unseen-11 --out $(BUILD)/evaluation-truth --truth
	set -e; for view in dv lv; do \
	  mxbatch evaluate $(BUILD)/cae_mv --archive $(BUILD)/unseen-11 --out $(BUILD)/evaluation-$$view --view $$view; done
	mxbatch evaluate $(BUILD)/cae_mv --archive $(FEW) --out $(BUILD)/evaluation-few
	set -e; for view in dv lv; do \
	  mxbatch evaluate $(BUILD)/cae_mv --archive $(FEW) --out $(BUILD)/evaluation-few-$$view --view $$view; done
	rm -rf engine/reference && cp -r $(BUILD)/cae_mv engine/reference

# The table of backbones and views in docs/training.md: five epochs each over the same animals, every training within half an
# hour of two cores. A ConvNeXt of all views needs both of them busy: two processes share its steps.
TABLE = cae_mv cae_direct_mv cae_dv cae_lv convnext_mv convnext_direct_mv convnext_dv convnext_lv
.PHONY: table
table: $(PHANTOMS) $(FEW)
	set -e; split=; for recipe in $(TABLE); do \
	  case $$recipe in convnext*_mv) start="torchrun --nproc-per-node 2 -m mxbatch";; *) start=mxbatch;; esac; \
	  $$start train $$recipe --epochs 5 --archive $(PHANTOMS) --out $(BUILD)/table/$$recipe $$split; \
	  split="--split $(BUILD)/table/cae_mv-run/split.csv"; done
	mxbatch evaluate $(addprefix $(BUILD)/table/,$(TABLE)) --archive $(FEW) --alone dv --alone lv --out $(BUILD)/evaluation-table

# The reference beside models that learned one view alone from the same animals, as often.
.PHONY: views
views: $(BUILD)/cae_mv $(FEW)
	set -e; for recipe in cae_dv cae_lv; do \
	  mxbatch train $$recipe --archive $(PHANTOMS) --out $(BUILD)/$$recipe --split $(BUILD)/cae_mv-run/split.csv; done
	mxbatch evaluate $(addprefix $(BUILD)/,cae_mv cae_dv cae_lv) --archive $(FEW) --alone dv --alone lv --out $(BUILD)/evaluation-views
