"""Settings of the documentation site: `make docs` builds it from these pages, without a network."""

from harness import __version__

project = "Kaggle kernel harness"
author = "its contributors"
release = __version__
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3  # links like page.md#a-heading work here as they do on a code host
nitpicky = True
html_theme = "furo"  # brings its own style and script: the pages fetch nothing
html_title = project
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
