//! Arguments of a hook: what a TOML file or a Python literal can say.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// One value of an argument.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// None.
    Null,
    /// true or false.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A float.
    Number(f64),
    /// A string.
    Text(String),
    /// A list or a tuple.
    List(Vec<Value>),
    /// A table.
    Map(BTreeMap<String, Value>),
}

impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => out.write_str("None"),
            Self::Boolean(value) => write!(out, "{value}"),
            Self::Integer(value) => write!(out, "{value}"),
            Self::Number(value) => write!(out, "{value:?}"),
            Self::Text(value) => write!(out, "{value:?}"),
            Self::List(items) => {
                out.write_str("[")?;
                for (at, item) in items.iter().enumerate() {
                    write!(out, "{}{item}", if at == 0 { "" } else { ", " })?;
                }
                out.write_str("]")
            }
            Self::Map(items) => {
                out.write_str("{")?;
                for (at, (key, item)) in items.iter().enumerate() {
                    write!(out, "{}{key} = {item}", if at == 0 { "" } else { ", " })?;
                }
                out.write_str("}")
            }
        }
    }
}

/// A hook that is asked for by type and arguments, as in an MMEngine config.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HookRequest {
    /// "CheckInvalidLossHook".
    pub type_name: String,
    /// Tells two of one type apart; by default the type.
    pub name: String,
    /// All other keys, `priority` and `policy` among them.
    pub args: BTreeMap<String, Value>,
}
