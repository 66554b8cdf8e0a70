# The commands of a checkout; README.md says what they do.
.PHONY: test
test:
	cargo test --workspace
