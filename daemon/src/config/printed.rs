//! `--print-config`: every key with its help and where its value was said, as TOML that is read back the same. A token is
//! never in it, only its file's path.

use std::fmt::Write;

use super::hook_tables::Table;
use super::keys::KEYS;
use super::walk::Walk;
use crate::domain::Value;

pub(super) fn printed(walk: &Walk, hooks: &[Table]) -> String {
    let mut out = String::from("# hookbusd: the configuration in force\n");
    let mut section = "";
    for key in KEYS {
        if key.section != section {
            section = key.section;
            let _ = write!(out, "\n[{section}]\n");
        }
        let said = walk.get(key.section, key.name);
        let _ = writeln!(
            out,
            "# {} (from {})\n{} = {}",
            key.help, said.origin, key.name, said.value
        );
    }
    for Table {
        request: hook,
        module,
        ..
    } in hooks
    {
        let _ = write!(
            out,
            "\n[[hooks]]\ntype = {:?}\nname = {:?}\n",
            hook.type_name, hook.name
        );
        if let Some(module) = module {
            let said = Value::Text(module.said());
            let _ = writeln!(out, "module = {said}");
        }
        for (key, value) in &hook.args {
            let _ = writeln!(out, "{key} = {value}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::Args;
    use super::super::walk::load;

    #[test]
    fn tokens_are_printed_as_their_files_path() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("tokens");
        std::fs::write(&path, "secret-secret-secret\n").expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode).expect("set");
        let env = HashMap::from([(
            "HOOKBUSD_AUTH__TRAINER_TOKEN_FILE".to_owned(),
            path.display().to_string(),
        )]);
        let config = load(&Args::default(), &env).expect("valid");
        assert!(
            config
                .printed
                .contains(&format!("trainer_token_file = \"{}\"", path.display()))
        );
        assert!(
            !format!("{config:?}").contains("secret-secret"),
            "{config:?}"
        );
    }
}
