//! Python values as the protocol has them.

use std::collections::HashMap;

use hookbus_client::wire::{
    Dataset, Description, HookRequest, Module, NumClasses, Sized, Value, ValueList, ValueMap,
    dataset::Classes, value::Kind,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

/// `dict(type="CheckInvalidLossHook", interval=50)`. Errors: ValueError that names hook and key.
pub(crate) fn hook_request(hook: &Bound<'_, PyAny>) -> PyResult<HookRequest> {
    let hook = hook
        .cast::<PyDict>()
        .map_err(|_| PyValueError::new_err("each of hooks is a dict with a type"))?;
    let mut request = HookRequest::default();
    for (key, item) in hook.iter() {
        let key: String = key
            .extract()
            .map_err(|_| PyValueError::new_err("a hook's keys are strings"))?;
        match key.as_str() {
            "type" => {
                request.r#type = item
                    .extract()
                    .map_err(|_| PyValueError::new_err("a hook's type is a string"))?
            }
            "name" => {
                request.name = item
                    .extract()
                    .map_err(|_| PyValueError::new_err("a hook's name is a string"))?
            }
            _ => {
                let value = value(&item, 16).ok_or_else(|| {
                    let text = item.repr().map(|text| text.to_string()).unwrap_or_default();
                    PyValueError::new_err(format!(
                        "hook {hook}: {key} = {text} is no number, string, list or dict"
                    ))
                })?;
                request.args.insert(key, value);
            }
        }
    }
    if request.r#type.is_empty() {
        return Err(PyValueError::new_err(format!(
            "hook {hook}: type is missing"
        )));
    }
    Ok(request)
}

/// A text that any Python string has, in UTF-8. A file's name may be none.
pub(crate) fn text(text: &Bound<'_, PyAny>) -> PyResult<String> {
    Ok(text.cast::<PyString>()?.to_string_lossy().into_owned())
}

pub(crate) fn optional_text(text: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    (!text.is_none()).then(|| self::text(text)).transpose()
}

/// A module that has `num_classes`: name, class, value, is VGG, is FusedSemanticHead.
pub(crate) type Head<'py> = (String, String, Bound<'py, PyAny>, bool, bool);

/// What model and datasets are; `datasets` by phase: class, and `classes` of the metainfo or None. Errors: TypeError where
/// classes have no length, as Python has it.
pub(crate) fn description<'py>(
    model_class: String,
    modules: Vec<Head<'py>>,
    datasets: HashMap<String, (String, Bound<'py, PyAny>)>,
) -> PyResult<Description> {
    let module = |(name, class_name, value, is_vgg, is_fused_semantic_head)| Module {
        name,
        class_name,
        num_classes: Some(num_classes(&value)),
        is_vgg,
        is_fused_semantic_head,
    };
    let dataset = |(phase, (class_name, classes))| {
        let classes = self::classes(&classes)?;
        let dataset = Dataset {
            class_name,
            classes,
        };
        Ok((phase, dataset))
    };
    Ok(Description {
        number: 0, // counted by the session
        model_class,
        modules: modules.into_iter().map(module).collect(),
        datasets: datasets.into_iter().map(dataset).collect::<PyResult<_>>()?,
    })
}

/// Whatever has a float compares as it: int, bool, numpy's numbers. A str has none.
fn num_classes(value: &Bound<'_, PyAny>) -> NumClasses {
    let text = value.str().map(|text| text.to_string());
    NumClasses {
        text: text.unwrap_or_else(|_| "?".to_owned()),
        number: value.extract().ok(),
    }
}

fn classes(classes: &Bound<'_, PyAny>) -> PyResult<Option<Classes>> {
    if classes.is_none() {
        return Ok(None);
    }
    if classes.is_exact_instance_of::<PyString>() {
        return Ok(Some(Classes::Text(classes.to_string())));
    }
    Ok(Some(Classes::Sized(Sized {
        type_name: classes.get_type().name()?.to_string(),
        length: classes.len()? as u64,
    })))
}

fn value(item: &Bound<'_, PyAny>, depth: usize) -> Option<Value> {
    if depth == 0 {
        return None;
    }
    let kind = if item.is_none() {
        Kind::Null(true)
    } else if let Ok(flag) = item.cast::<PyBool>() {
        Kind::Boolean(flag.is_true())
    } else if item.is_instance_of::<PyInt>() {
        Kind::Integer(item.extract().ok()?)
    } else if item.is_instance_of::<PyFloat>() {
        Kind::Number(item.extract().ok()?)
    } else if item.is_instance_of::<PyString>() {
        Kind::Text(item.extract().ok()?)
    } else if item.is_instance_of::<PyList>() || item.is_instance_of::<PyTuple>() {
        let items = item
            .try_iter()
            .ok()?
            .map(|item| value(&item.ok()?, depth - 1));
        Kind::List(ValueList {
            items: items.collect::<Option<_>>()?,
        })
    } else if let Ok(map) = item.cast::<PyDict>() {
        let items = map
            .iter()
            .map(|(key, item)| Some((key.extract().ok()?, value(&item, depth - 1)?)));
        Kind::Map(ValueMap {
            items: items.collect::<Option<_>>()?,
        })
    } else {
        return None;
    };
    Some(Value { kind: Some(kind) })
}
