//! `[[hooks]]` of the file: each table becomes a request for a hook, tried at once, so that a wrong argument is a mistake
//! before anything starts. No hook is kept or run here.

use super::walk::Walk;
use crate::domain::{HookRequest, Value};
use crate::hooks::{self, Origin};

/// The hooks, each with where it stands.
pub(super) fn hooks(
    walk: &mut Walk,
    origin: &str,
    items: Vec<Value>,
) -> Vec<(String, HookRequest)> {
    let mut hooks: Vec<(String, HookRequest)> = Vec::new();
    for (at, item) in items.into_iter().enumerate() {
        let what = format!("hooks[{at}]");
        let Value::Map(mut args) = item else {
            walk.wrong(origin, &what, "a hook is a table with a type");
            continue;
        };
        let type_name = match args.remove("type") {
            Some(Value::Text(type_name)) => type_name,
            _ => {
                walk.wrong(origin, &what, "type is missing; say type = \"CheckInvalidLossHook\" or another of `hookbus hooks`");
                continue;
            }
        };
        let name = match args.remove("name") {
            None => type_name.clone(),
            Some(Value::Text(name)) if !name.is_empty() => name,
            Some(other) => {
                walk.wrong(
                    origin,
                    &format!("{what}.name"),
                    &format!("it is {other}; it must be a string"),
                );
                continue;
            }
        };
        let what = format!("{what} ({name})");
        if let Some((first, _)) = hooks.iter().find(|(_, hook)| hook.name == name) {
            let why =
                format!("the name {name:?} is taken by {first}; give one of them another `name`");
            walk.wrong(origin, &what, &why);
            continue;
        }
        let request = HookRequest {
            type_name,
            name,
            args,
        };
        if let Err(why) = hooks::build(&request, Origin::Config) {
            walk.wrong(origin, &what, &why);
        }
        hooks.push((what, request));
    }
    hooks
}
