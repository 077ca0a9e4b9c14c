//! docs/hooks: a page for each hook and one over all of them, from the one list, so that they cannot lag behind it.

use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

use crate::hooks::{Kind, LIST, NONE, OWN, REQUIRED};

/// Columns of a paragraph; tables and code are not broken.
const WIDTH: usize = 120;

const WRITTEN: &str =
    "<!-- Written by `make hook-docs` from daemon/src/hooks; change it there. -->\n";

/// Of all hooks.
const ALL: &str = r#"# The hooks

The name, the arguments and the decisions are those of MMDetection's hook of that name; only `Rule` has no original, and is a
hook of your own in one line. Each page says what its hook sees, when it fires, what it does, and what is meant to differ. How
to come from MMDetection's own: [`migration.md`](../migration.md).

"#;

const ASKED_FOR: &str = r#"
## How one is asked for

By the trainer, in its MMEngine config or in `hookbus.attach(hooks=[…])`, or by the daemon's TOML for every training that
attaches to it. A name that is asked for by both is one hook, with the TOML's arguments, and the trainer's log says so where
they differ. `hookbusd --check-config` says what is wrong in the TOML; what is wrong in a trainer's own is one warning in its
log, and the training goes on without that hook.

Each hook also takes:

| argument | default | what it is |
|---|---|---|
| `name` | its type | by which orders and results name it; two hooks of one type need two |
| `priority` | 50 | the order among hookbus's own hooks, smaller first: 0 to 100, or MMEngine's words from "HIGHEST" to "LOWEST" |
| `policy` | "act" | "warn": a stop becomes a warning in the trainer's log and an incident; "observe": its decisions are only counted and shown |

`hookbus show RUN` has the hooks of a run, what they have decided, and what was refused.

An interval may be a float, as in MMEngine: 2.5 is due at 5, 10, 15.
"#;

/// Writes all pages. Pages of hooks that are no more are left there.
pub fn write(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("README.md"), all())?;
    LIST.iter()
        .try_for_each(|kind| fs::write(folder.join(file_name(kind)), page(kind)))
}

fn file_name(kind: &Kind) -> String {
    format!("{}.md", kind.type_name)
}

fn all() -> String {
    let mut out = format!("{WRITTEN}{ALL}| hook | what it does | as in |\n|---|---|---|\n");
    for kind in LIST {
        let name = kind.type_name;
        let original = match kind.page.original {
            OWN => "",
            original => original,
        };
        line(
            &mut out,
            &format!(
                "| [`{name}`]({}) | {} | {original} |",
                file_name(kind),
                kind.summary
            ),
        );
    }
    out + ASKED_FOR
}

fn page(kind: &Kind) -> String {
    let page = &kind.page;
    let mut out = format!("{WRITTEN}# {}\n\n", kind.type_name);
    let mut summary = format!("It {}.", kind.summary);
    if page.original != OWN {
        let _ = write!(summary, " As in {}.", page.original);
    }
    paragraphs(&mut out, &summary);
    line(&mut out, "\n## What it sees\n");
    paragraphs(&mut out, page.sees);
    line(&mut out, "\n## When it fires\n");
    let points: Vec<_> = kind
        .points
        .iter()
        .map(|point| match point.contains(' ') {
            true => (*point).to_owned(),
            false => format!("`{point}`"),
        })
        .collect();
    paragraphs(
        &mut out,
        &format!("At {}. {}", points.join(", "), page.fires),
    );
    line(&mut out, "\n## What it does\n");
    paragraphs(&mut out, page.does);
    line(&mut out, "\n## Arguments\n");
    arguments(&mut out, kind);
    line(&mut out, "\n## How it is asked for\n");
    asked_for(&mut out, kind);
    if let Some(more) = page.more {
        out.push('\n');
        out.push_str(&more());
    }
    differences(&mut out, kind);
    out
}

fn arguments(out: &mut String, kind: &Kind) {
    if kind.args.is_empty() {
        paragraphs(out, "None of its own.");
    } else {
        line(out, "| argument | default | what it is |\n|---|---|---|");
    }
    for arg in kind.args {
        let default = match arg.default {
            REQUIRED | NONE => arg.default.to_owned(),
            toml => format!("`{toml}`"),
        };
        line(
            out,
            &format!("| `{}` | {default} | {} |", arg.name, arg.help),
        );
    }
    line(out, "");
    paragraphs(
        out,
        "`name`, `priority` and `policy` are those of [every hook](README.md#how-one-is-asked-for).",
    );
}

fn asked_for(out: &mut String, kind: &Kind) {
    let mut args = vec![format!("type={:?}", kind.type_name)];
    let mut table = format!("[[hooks]]\ntype = {:?}\n", kind.type_name);
    for (name, toml) in shown(kind) {
        args.push(format!("{name}={}", python(toml)));
        let _ = writeln!(table, "{name} = {toml}");
    }
    if kind.config_only {
        paragraphs(
            out,
            "In the daemon's TOML, for every training that attaches; a trainer cannot ask for it:",
        );
        let _ = write!(out, "\n```toml\n{table}```\n");
        return;
    }
    let mut dict = args.join(", ");
    if dict.len() > WIDTH / 2 {
        dict = format!("\n            {},\n        ", args.join(",\n            "));
    }
    paragraphs(
        out,
        "In a trainer's MMEngine config (`hooks` is a list: all of them go into one HookbusHook), or in `hookbus.attach(hooks=…)`:",
    );
    let _ = write!(
        out,
        "\n```python\n\
         custom_imports = dict(imports=[\"hookbus.adapters.mmengine\"], allow_failed_imports=False)\n\
         custom_hooks = [\n    dict(type=\"HookbusHook\", hooks=[\n        dict({dict}),\n    ]),\n]\n```\n\n"
    );
    paragraphs(
        out,
        "In the daemon's TOML, for every training that attaches:",
    );
    let _ = write!(out, "\n```toml\n{table}```\n");
}

/// What an example says: what the hook is known for, else its first argument. (argument, TOML)
fn shown(kind: &Kind) -> Vec<(&'static str, &'static str)> {
    if !kind.example.is_empty() {
        return kind.example.to_vec();
    }
    let first = kind.args.first();
    let first = first.and_then(|arg| Some((arg.name, kind.example_of(arg)?)));
    first.into_iter().collect()
}

fn python(toml: &str) -> &str {
    match toml {
        "true" => "True",
        "false" => "False",
        same => same,
    }
}

fn differences(out: &mut String, kind: &Kind) {
    if kind.page.differences.is_empty() {
        return;
    }
    line(out, "\n## What is meant to differ\n");
    line(
        out,
        "| what | here | why | recorded in `tests/oracle` |\n|---|---|---|---|",
    );
    for difference in kind.page.differences {
        let recorded = difference
            .recorded
            .as_ref()
            .map_or_else(String::new, |recorded| {
                let kinds = recorded.kinds.join("`, `");
                format!("{} `{kinds}`: {}", recorded.file, recorded.fields)
            });
        let (what, ours, why) = (difference.what, difference.ours, difference.why);
        line(out, &format!("| {what} | {ours} | {why} | {recorded} |"));
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

/// Each line of `text` as a paragraph, or with "- " as an item of a list, broken at blanks.
fn paragraphs(out: &mut String, text: &str) {
    let mut before: Option<&str> = None;
    for paragraph in text.lines() {
        let indent = if paragraph.starts_with("- ") {
            "  "
        } else {
            ""
        };
        if before.is_some_and(|before| indent.is_empty() || !before.starts_with("- ")) {
            out.push('\n');
        }
        let mut column = 0;
        for word in paragraph.split(' ') {
            let length = word.chars().count();
            if column > 0 && column + 1 + length > WIDTH {
                let _ = write!(out, "\n{indent}");
                column = indent.len();
            } else if column > 0 {
                out.push(' ');
                column += 1;
            }
            out.push_str(word);
            column += length;
        }
        out.push('\n');
        before = Some(paragraph);
    }
}
