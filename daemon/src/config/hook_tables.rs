//! `[[hooks]]` of the file: each table becomes a request for a hook, tried at once, so that a wrong argument is a mistake
//! before anything starts. Of a module's hook only what the daemon itself reads is tried. No hook is kept or run here.

use std::path::{Path, PathBuf};

use super::walk::Walk;
use crate::domain::{HookRequest, Value};
use crate::hooks::{self, Origin};

/// One table.
pub(super) struct Table {
    /// All keys but type, name and module are its arguments.
    pub(super) request: HookRequest,
    /// None: a hook of the daemon's own list.
    pub(super) module: Option<Module>,
}

/// A module of somebody's own.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Module {
    /// The namespace of its types.
    pub(super) name: String,
    /// Where it is; None: where the interpreter looks.
    pub(super) file: Option<PathBuf>,
}

impl Module {
    /// As the key has it.
    pub(super) fn said(&self) -> String {
        self.file
            .as_ref()
            .map_or_else(|| self.name.clone(), |file| file.display().to_string())
    }

    /// A module's name, or a file `my_hooks.py` from the folder on. Errors: why it is neither.
    fn read(said: &str, folder: &Path) -> Result<Self, String> {
        let is_word = |part: &str| {
            let mut letters = part.chars();
            letters
                .next()
                .is_some_and(|first| first.is_alphabetic() || first == '_')
                && letters.all(|letter| letter.is_alphanumeric() || letter == '_')
        };
        let Some(stem) = said.strip_suffix(".py") else {
            return if said.split('.').all(is_word) {
                Ok(Self {
                    name: said.to_owned(),
                    file: None,
                })
            } else {
                Err(format!(
                    "{said:?} is neither a module's name such as \"my_hooks\" nor a file such as \"my_hooks.py\""
                ))
            };
        };
        let file = folder.join(said);
        if !file.is_file() {
            return Err(format!("there is no file {}", file.display()));
        }
        let name = stem.rsplit('/').next().unwrap_or(stem);
        if !is_word(name) {
            return Err(format!(
                "a file's name without .py is a module's name, and {name:?} is none"
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            file: Some(file),
        })
    }
}

/// The hooks, in the file's order; `folder` is the file's.
pub(super) fn hooks(walk: &mut Walk, origin: &str, folder: &Path, items: Vec<Value>) -> Vec<Table> {
    let mut hooks: Vec<(String, Table)> = Vec::new();
    for (at, item) in items.into_iter().enumerate() {
        let what = format!("hooks[{at}]");
        match table(&what, item, folder, &hooks) {
            Ok((what, table)) => {
                if let Err(why) = tried(&table, &hooks) {
                    walk.wrong(origin, &what, &why);
                }
                hooks.push((what, table));
            }
            Err((what, why)) => walk.wrong(origin, &what, &why),
        }
    }
    hooks.into_iter().map(|(_, table)| table).collect()
}

/// What a table says, with where it stands. Errors: where, and why it says nothing.
fn table(
    what: &str,
    item: Value,
    folder: &Path,
    before: &[(String, Table)],
) -> Result<(String, Table), (String, String)> {
    let wrong = |what: &str, why: &str| Err((what.to_owned(), why.to_owned()));
    let Value::Map(mut args) = item else {
        return wrong(what, "a hook is a table with a type");
    };
    let Some(Value::Text(type_name)) = args.remove("type") else {
        return wrong(
            what,
            "type is missing; say type = \"CheckInvalidLossHook\" or another of `hookbus hooks`",
        );
    };
    let name = match args.remove("name") {
        None => type_name.clone(),
        Some(Value::Text(name)) if !name.is_empty() => name,
        Some(other) => {
            return wrong(
                &format!("{what}.name"),
                &format!("it is {other}; it must be a string"),
            );
        }
    };
    let what = format!("{what} ({name})");
    if let Some((first, _)) = before.iter().find(|(_, table)| table.request.name == name) {
        let why = format!("the name {name:?} is taken by {first}; give one of them another `name`");
        return wrong(&what, &why);
    }
    let module = match args.remove("module") {
        None => None,
        Some(Value::Text(said)) => match Module::read(&said, folder) {
            Ok(module) => Some(module),
            Err(why) => return wrong(&what, &format!("module: {why}")),
        },
        Some(other) => return wrong(&what, &format!("module is {other}; it must be a string")),
    };
    let request = HookRequest {
        type_name,
        name,
        args,
    };
    Ok((what, Table { request, module }))
}

/// Whether it could be a hook. Errors: why not.
fn tried(table: &Table, before: &[(String, Table)]) -> Result<(), String> {
    let Some(module) = &table.module else {
        return hooks::build(&table.request, Origin::Config).map(|_| ());
    };
    let mut args = table.request.args.clone();
    hooks::priority(&mut args)?;
    hooks::policy(&mut args)?;
    let others = before.iter().filter_map(|(_, table)| table.module.as_ref());
    let other = others
        .into_iter()
        .find(|other| other.name == module.name && *other != module);
    other.map_or(Ok(()), |other| {
        Err(format!(
            "module {} is {} here and {} above; rename one of them",
            module.name,
            module.said(),
            other.said()
        ))
    })
}
