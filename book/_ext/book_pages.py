"""What the book's pages need beyond Jupyter Book's own settings."""

import re

SECTION = re.compile(r"(Shapes|Units|Raises|Source): +")
BEFORE_SECTION = re.compile(r" +(?=(?:Shapes|Units|Raises|Source): )")


def show_repository_buttons(app, config):
    """Offer the buttons for the repository and Colab only where an address is set."""
    options = config.html_theme_options
    known = bool(options.get("repository_url"))
    options["use_repository_button"] = known
    options["use_issues_button"] = known
    if not known:
        options.pop("repository_url", None)
        options.pop("launch_buttons", None)


def set_sidebars(app, config):
    """Show the book's title under its logo, and two levels of headings beside a page."""
    config.html_theme_options["logo"] = {"text": config.html_title}
    config.html_theme_options["show_toc_level"] = 2


def drop_thebe(app, pagename, templatename, context, doctree):
    """Leave out Thebe: the theme declares it twice, which is an error in every page's console."""
    context["script_files"] = [
        script for script in context["script_files"] if not mentions_thebe(script)
    ]


def mentions_thebe(script):
    """Whether a script of the page belongs to Thebe."""
    attributes = getattr(script, "attributes", {})
    return "thebe" in f"{script} {attributes.get('body', '')}".lower()


def list_sections(app, what, name, obj, options, lines):
    """Show the sections of a docstring (Shapes, Raises, Source) as a list of fields."""
    listed, inside = [], False
    for line in one_section_a_line(lines):
        match = SECTION.match(line)
        if match and not inside:
            listed.append("")
        inside = bool(match) or inside and bool(line)
        text = f":{match[1]}: {line[match.end() :]}" if match else line
        listed.append("    " + line.lstrip() if inside and not match else text)
    lines[:] = listed


def one_section_a_line(lines):
    """The lines of a docstring, parted where a second section begins in a line."""
    return [part for line in lines for part in BEFORE_SECTION.split(line)]


def skip_tuple_fields(app, what, name, obj, skip, options):
    """Leave out the fields of named tuples: the signature names them already."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app):
    """Register the handlers with Sphinx."""
    app.connect("config-inited", show_repository_buttons, priority=100)
    app.connect("config-inited", set_sidebars, priority=100)
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("autodoc-process-docstring", list_sections)
    app.connect("autodoc-skip-member", skip_tuple_fields)
    return {"parallel_read_safe": True}
