"""Recipes: specs with holes, under a name and a version. Filled in, they are specs like any other."""
