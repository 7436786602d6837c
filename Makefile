.PHONY: setup
setup: .venv/.done
.venv/.done: pyproject.toml constraints.txt
	python3 -m venv .venv
	.venv/bin/pip install -c constraints.txt -e '.[cloud,sim,dev]'
	touch $@
