//! `hookbus hooks`: the one list of hooks, from a daemon, or from the program itself where none runs.

use std::process::Stdio;

use serde_json::Value;

use hookbus_client::inspect::InspectError;

use crate::failure::Failure;
use crate::table::one_line;
use crate::terminal::Style;
use crate::{daemon_binary, json, reach, terminal};

/// Prints every hook with its points, its arguments and its effect.
pub(crate) async fn hooks(address: &reach::Target, as_json: bool) -> Result<u8, Failure> {
    let list = match from_daemon(address).await? {
        Some(list) => list,
        None => from_program().await?,
    };
    if as_json {
        terminal::answer_json(&list)?;
    } else {
        terminal::answer(&text(&list, Style::stdout()))?;
    }
    Ok(0)
}

/// None: there is no daemon to ask. A daemon that was named on the command line must be there.
async fn from_daemon(target: &reach::Target) -> Result<Option<Value>, Failure> {
    let Some(address) = target.resolve()? else {
        return Ok(None);
    };
    let mut inspector = match target.connect(&address).await? {
        Ok(inspector) => inspector,
        Err(InspectError::Connect(_)) if target.address.is_none() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let hooks = inspector.hooks().await?;
    Ok(Some(hooks.iter().map(json::hook_info).collect()))
}

async fn from_program() -> Result<Value, Failure> {
    let program = daemon_binary::find()?;
    let mut command = tokio::process::Command::new(&program);
    command
        .args(["--list-hooks", "--json"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let output = command.output().await;
    let output = output
        .map_err(|error| Failure::failed(format!("cannot run {}: {error}", program.display())))?;
    if !output.status.success() {
        return Err(Failure::failed(format!(
            "{} --list-hooks: {}",
            program.display(),
            output.status
        )));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| {
        Failure::failed(format!(
            "{} --list-hooks --json gave no JSON: {error}",
            program.display()
        ))
    })
}

fn text(list: &Value, style: Style) -> String {
    let word = |value: &Value, key: &str| one_line(value[key].as_str().unwrap_or_default());
    let mut text = String::new();
    for hook in list.as_array().map_or(&[][..], Vec::as_slice) {
        let points: Vec<_> = hook["points"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let of = match word(hook, "module") {
            module if module.is_empty() => String::new(),
            module => format!(" (of module {module})"),
        };
        text.push_str(&format!(
            "{}{of}\n  {}\n",
            style.bold(&word(hook, "type")),
            word(hook, "summary")
        ));
        text.push_str(&format!(
            "  at: {}\n  does: {}\n",
            points.join(", "),
            word(hook, "effect")
        ));
        for arg in hook["args"].as_array().into_iter().flatten() {
            // The program's own list may give a default as a number.
            let default = match &arg["default"] {
                Value::String(text) => one_line(text),
                Value::Null => "required".to_owned(),
                other => other.to_string(),
            };
            text.push_str(&format!(
                "  {} = {default}: {}\n",
                word(arg, "name"),
                word(arg, "help")
            ));
        }
        text.push('\n');
    }
    if text.is_empty() {
        return "no hooks\n".to_owned();
    }
    text + "In hookbusd's TOML: [[hooks]] type = \"...\" and its arguments; in a trainer: hooks=[dict(type='...')].\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_of_a_provider_is_shown_with_its_module() {
        let list = serde_json::json!([{"type": "Mine", "summary": "mine", "module": "my_hooks"}]);
        let text = text(&list, Style::plain());
        assert!(
            text.starts_with("Mine (of module my_hooks)\n  mine\n"),
            "{text}"
        );
    }

    #[test]
    fn a_hook_is_shown_with_its_arguments() {
        let list = serde_json::json!([{
            "type": "MemoryProfilerHook", "summary": "memory in the log", "points": ["after_train_iter"],
            "effect": "a log line", "args": [{"name": "interval", "default": 50, "help": "every n"}],
        }]);
        let text = text(&list, Style::plain());
        assert!(
            text.starts_with("MemoryProfilerHook\n  memory in the log\n  at: after_train_iter\n"),
            "{text}"
        );
        assert!(text.contains("  interval = 50: every n\n"), "{text}");
    }
}
