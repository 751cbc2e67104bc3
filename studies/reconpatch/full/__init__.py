"""ReConPatch trained as its paper says; see studies/reconpatch/full/dvc.yaml."""
