//! `hookbus doctor`: what can be seen from here, what not, and for each the one line that would mend it.
//!
//! What only this process can see (address, rights, programs) comes first, then what the daemon says about itself.
//! Ends with 0 if a daemon answered; a machine without a GPU is no failure.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use serde_json::json;

use hookbus_client::address::{ADDRESS_VARIABLE, Address, default_socket};
use hookbus_client::connect::ConnectError;
use hookbus_client::inspect::InspectError;
use hookbus_client::inspect::proto::{AboutReply, Finding};

use crate::failure::{FAILED, Failure};
use crate::table::one_line;
use crate::terminal::Style;
use crate::{daemon_binary, format, reach, terminal};

/// Prints every finding.
pub(crate) async fn doctor(target: &reach::Target, as_json: bool) -> Result<u8, Failure> {
    let mut findings = vec![program()];
    let (found, about) = daemon(target).await?;
    findings.extend(found);
    if let Some(about) = &about {
        findings.push(version(about));
        findings.extend(about.findings.iter().cloned());
    }
    if as_json {
        let all: Vec<_> = findings
            .iter()
            .map(|f| json!({"what": f.what, "ok": f.ok, "text": f.text, "mend": (!f.mend.is_empty()).then_some(&f.mend)}))
            .collect();
        let daemon = about.as_ref().map(|a| {
            json!({"version": a.version, "pid": a.pid, "uptime_s": a.uptime_s, "listening": a.listening})
        });
        terminal::answer_json(&json!({"daemon": daemon, "findings": all}))?;
    } else {
        terminal::answer(&text(&findings, Style::stdout()))?;
    }
    Ok(if about.is_some() { 0 } else { FAILED })
}

/// The address, the rights to it, and the daemon's answer, as far as each could be had.
async fn daemon(target: &reach::Target) -> Result<(Vec<Finding>, Option<AboutReply>), Failure> {
    let Some(address) = target.resolve()? else {
        let text = reach::nowhere();
        return Ok((
            vec![bad(
                "address",
                &text,
                "hookbusd, or: hookbus run -- COMMAND",
            )],
            None,
        ));
    };
    let mut findings = vec![good(
        "address",
        &format!("{address} ({})", origin(target.address.as_deref())),
    )];
    if let Address::Unix(path) = &address {
        findings.push(socket(path));
    }
    let mut inspector = match target.connect(&address).await? {
        Ok(inspector) => inspector,
        Err(error) => {
            findings.push(bad("daemon", &error.to_string(), mend(&error)));
            return Ok((findings, None));
        }
    };
    match inspector.about().await {
        Ok(about) => {
            let up = format::age(about.uptime_s);
            let text = format!(
                "pid {}, up {up}, listens at {}",
                about.pid,
                about.listening.join(", ")
            );
            findings.push(good("daemon", &text));
            Ok((findings, Some(about)))
        }
        Err(error) => {
            findings.push(bad("daemon", &error.to_string(), mend(&error)));
            Ok((findings, None))
        }
    }
}

/// What would make the daemon answer.
fn mend(error: &InspectError) -> &'static str {
    match error {
        InspectError::Connect(ConnectError::Tls { .. }) => {
            "hookbus --ca-file FILE, with the certificate of the daemon's authority"
        }
        InspectError::Connect(_) => "hookbusd, or: hookbus run -- COMMAND",
        InspectError::Refused(_) => {
            "hookbus --token-file FILE, with a token of the daemon's viewers"
        }
        _ => "end it and start it again: hookbusd",
    }
}

fn origin(explicit: Option<&str>) -> String {
    if explicit.is_some() {
        "from --address".to_owned()
    } else if std::env::var(ADDRESS_VARIABLE).is_ok_and(|text| !text.trim().is_empty()) {
        format!("from {ADDRESS_VARIABLE}")
    } else {
        "the default socket".to_owned()
    }
}

/// Whether this user may open the socket: to connect is to write.
fn socket(path: &Path) -> Finding {
    let start = "start the daemon: hookbusd";
    let shown = path.display();
    let meta = match path.metadata() {
        Ok(meta) => meta,
        Err(error) => return bad("socket", &format!("{shown}: {error}"), start),
    };
    if !meta.file_type().is_socket() {
        return bad(
            "socket",
            &format!("{shown} is no socket"),
            &format!("mv {shown} {shown}.old, then start hookbusd"),
        );
    }
    let rights = format!("mode {:04o}, of uid {}", meta.mode() & 0o7777, meta.uid());
    match rustix::fs::access(path, rustix::fs::Access::WRITE_OK) {
        Ok(()) => good("socket", &rights),
        Err(_) => {
            let default = default_socket().map_or(String::new(), |path| {
                format!("; yours is {}", path.display())
            });
            let text = format!(
                "{rights}: uid {} may not connect{default}",
                rustix::process::getuid().as_raw()
            );
            bad(
                "socket",
                &text,
                "become that user, or set the socket's mode and group in the daemon's configuration",
            )
        }
    }
}

/// The program that `hookbus run` starts.
fn program() -> Finding {
    match daemon_binary::find() {
        Ok(path) => good("hookbusd program", &path.display().to_string()),
        Err(failure) => bad(
            "hookbusd program",
            &failure.text,
            "export HOOKBUSD=/path/to/hookbusd",
        ),
    }
}

fn version(about: &AboutReply) -> Finding {
    let own = env!("CARGO_PKG_VERSION");
    // A daemon may say "hookbusd 0.1.0" or "0.1.0".
    if about.version.split_whitespace().any(|word| word == own) {
        return good("version", &format!("{own}, as the daemon's"));
    }
    let text = format!("this is {own}, the daemon says {}", about.version);
    bad(
        "version",
        &text,
        "install both from one release; what both know works meanwhile",
    )
}

fn good(what: &str, text: &str) -> Finding {
    Finding {
        what: what.to_owned(),
        ok: true,
        text: text.to_owned(),
        mend: String::new(),
    }
}

fn bad(what: &str, text: &str, mend: &str) -> Finding {
    Finding {
        what: what.to_owned(),
        ok: false,
        text: text.to_owned(),
        mend: mend.to_owned(),
    }
}

fn text(findings: &[Finding], style: Style) -> String {
    let mut text = String::new();
    for finding in findings {
        let mark = if finding.ok {
            "ok ".to_owned()
        } else {
            style.alert("NO ")
        };
        text.push_str(&format!(
            "{mark} {}: {}\n",
            one_line(&finding.what),
            one_line(&finding.text)
        ));
        if !finding.mend.is_empty() {
            text.push_str(&format!("      mend: {}\n", one_line(&finding.mend)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_has_its_mend_below_it() {
        let page = text(
            &[
                good("socket", "mode 0600"),
                bad("GPU", "no driver", "install it"),
            ],
            Style::plain(),
        );
        assert_eq!(
            page,
            "ok  socket: mode 0600\nNO  GPU: no driver\n      mend: install it\n"
        );
    }

    #[test]
    fn a_socket_is_told_from_a_file_and_from_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        assert!(socket(&path).text.contains("No such file"));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(socket(&path).ok);
        drop(listener);
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(socket(&file).text.ends_with("is no socket"));
    }

    #[test]
    fn two_versions_are_seen() {
        let own = AboutReply {
            version: format!("hookbusd {}", env!("CARGO_PKG_VERSION")),
            ..Default::default()
        };
        assert!(version(&own).ok);
        assert!(
            !version(&AboutReply {
                version: "9.9.9".into(),
                ..Default::default()
            })
            .ok
        );
    }
}
