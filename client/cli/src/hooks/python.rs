//! Hooks that are written in Python run in Python: `serve` becomes the interpreter, `test` gives it a recorded run, from
//! its journal, as lines on its standard input. This program never reads the module.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin};

use hookbus_client::inspect::Inspector;

use crate::args::{ModuleArgs, ServeArgs, TestArgs};
use crate::export::ndjson::Lines;
use crate::failure::{FAILED, Failure};
use crate::reach::Target;
use crate::{recorded, rows};

/// What a replay reads of a journal.
const TABLES: [&str; 6] = ["run", "attempts", "events", "metrics", "samples", "log"];

/// Becomes `python -m hookbus.serving`.
pub(super) fn serve(target: &Target, args: &ServeArgs) -> Result<u8, Failure> {
    let mut command = python(&args.module, "hookbus.serving");
    command.arg("--module").arg(&args.module.module);
    if let Some(address) = &target.address {
        command.arg("--address").arg(address);
    }
    let files = [
        ("--token-file", &target.files.token),
        ("--ca-file", &target.files.ca),
    ];
    for (flag, file) in files {
        if let Some(file) = file {
            command.arg(flag).arg(file);
        }
    }
    Err(not_started(&args.module.python, &command.exec()))
}

/// Runs `python -m hookbus.replaying` on a recorded run; ends as it does.
pub(super) async fn test(target: &Target, args: &TestArgs) -> Result<u8, Failure> {
    let mut command = python(&args.module, "hookbus.replaying");
    if args.output.json {
        command.arg("--json");
    }
    let Some(replay) = &args.replay else {
        command.arg(&args.module.module);
        return Err(not_started(&args.module.python, &command.exec()));
    };
    if let Some(path) = as_path(replay)? {
        command.arg("--recording").arg(path);
        command.arg(&args.module.module);
        return Err(not_started(&args.module.python, &command.exec()));
    }
    command.args(["--recording", "-"]).arg(&args.module.module);
    recorded::ask(target, &args.state, async |inspector| {
        replayed(command, &args.module.python, inspector, replay).await
    })
    .await
}

/// None: it is the name of a run. A folder without an export may well have the name of one.
fn as_path(replay: &str) -> Result<Option<&Path>, Failure> {
    let path = Path::new(replay);
    let is_export = path.join(format!("{}.ndjson", TABLES[0])).exists();
    if path.is_file() || is_export || (replay.contains('/') && path.exists()) {
        return Ok(Some(path));
    }
    if replay.contains('/') || replay.ends_with(".ndjson") {
        return Err(Failure::failed(format!("there is no file {replay}")));
    }
    Ok(None)
}

fn python(module: &ModuleArgs, of: &str) -> Command {
    let mut command = Command::new(&module.python);
    command.args(["-m", of]);
    for hook in &module.hook {
        command.arg("--hook").arg(hook);
    }
    if let Some(file) = &module.hooks {
        command.arg("--hooks").arg(file);
    }
    command
}

async fn replayed(
    command: Command,
    python: &OsStr,
    mut inspector: Inspector,
    run: &str,
) -> Result<u8, Failure> {
    // Asked first: for a run that is not there no interpreter is started.
    let mut replies = inspector.rows(run, TABLES[0], None).await?;
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::piped()).kill_on_drop(true);
    let mut child = command
        .spawn()
        .map_err(|error| not_started(python, &error))?;
    let mut stdin = child.stdin.take().expect("it was just piped");
    for next in TABLES[1..].iter().map(Some).chain([None]) {
        let mut lines = None;
        while let Some(reply) = replies.next().await? {
            let table = reply.table.clone();
            let wrong = |why: &String| rows::wrong(&table, why);
            if lines.is_none() {
                let columns = rows::columns(&reply.columns).map_err(|why| wrong(&why))?;
                lines = Some((Lines::new(&columns, Some(&table)), columns));
            }
            let (lines, columns) = lines.as_ref().expect("it was just made");
            let checked = rows::checked(columns, reply.rows).map_err(|why| wrong(&why))?;
            let mut bytes = Vec::new();
            for row in &checked {
                lines
                    .write(&mut bytes, row)
                    .map_err(|error| Failure::output(&error))?;
            }
            if !said(&mut stdin, &bytes).await? {
                return ended(child).await;
            }
        }
        if let Some(table) = next {
            replies = inspector.rows(run, table, None).await?;
        }
    }
    drop(stdin);
    ended(child).await
}

/// False: it has ended, and says itself why.
async fn said(stdin: &mut ChildStdin, bytes: &[u8]) -> Result<bool, Failure> {
    match stdin.write_all(bytes).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::failed(format!(
            "cannot hand the recorded run over: {error}"
        ))),
    }
}

async fn ended(mut child: Child) -> Result<u8, Failure> {
    let status = child.wait().await;
    let status = status
        .map_err(|error| Failure::failed(format!("lost sight of the interpreter: {error}")))?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(FAILED))
}

fn not_started(python: &OsStr, error: &io::Error) -> Failure {
    Failure::failed(format!(
        "cannot run {}: {error}; name the interpreter that has the package hookbus: --python .venv/bin/python",
        python.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_a_path_and_what_looks_like_one_must_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        assert_eq!(as_path(path).unwrap(), Some(folder.path()));
        assert_eq!(as_path("LAST").unwrap(), None);
        assert_eq!(
            as_path("src").unwrap(),
            None,
            "a folder beside, and no export"
        );
        for missing in [format!("{path}/none"), "none.ndjson".to_owned()] {
            let failure = as_path(&missing).unwrap_err();
            assert_eq!(failure.text, format!("there is no file {missing}"));
        }
    }
}
