//! What a trainer's model and datasets are, checked.

use hookbus_proto::v1::{self as wire, dataset};
use tonic::Status;

use super::Limits;
use super::field::{invalid, name, text};
use crate::domain::{Classes, Dataset, Description, Module, NumClasses};

/// Modules of one description: bounds the memory that a frame of tiny ones takes.
const MODULES: usize = 65_536;

pub(super) fn description(said: wire::Description, limits: &Limits) -> Result<Description, Status> {
    if said.modules.len() > MODULES {
        return Err(invalid(format!(
            "Description has {} modules, more than {MODULES}; those without num_classes may be left out",
            said.modules.len()
        )));
    }
    let modules = said.modules.into_iter().map(|said| module(said, limits));
    let mut datasets = said.datasets;
    let mut phase = |phase| {
        let said = datasets.remove(phase);
        said.map(|said| dataset(said, limits)).transpose()
    };
    Ok(Description {
        number: said.number,
        model_class: text("Description.model_class", said.model_class, limits)?,
        modules: modules.collect::<Result<_, _>>()?,
        train: phase("train")?,
        val: phase("val")?,
    })
}

fn module(said: wire::Module, limits: &Limits) -> Result<Module, Status> {
    let num_classes = said.num_classes.map(|value| {
        Ok::<_, Status>(NumClasses {
            text: text("a module's num_classes", value.text, limits)?,
            number: value.number,
        })
    });
    Ok(Module {
        name: text("a module's name", said.name, limits)?,
        class_name: name("a module's class_name", said.class_name, limits)?,
        num_classes: num_classes.transpose()?,
        is_vgg: said.is_vgg,
        is_fused_semantic_head: said.is_fused_semantic_head,
    })
}

fn dataset(said: wire::Dataset, limits: &Limits) -> Result<Dataset, Status> {
    let classes = match said.classes {
        None => Classes::Absent,
        Some(dataset::Classes::Text(classes)) => {
            Classes::Str(text("a dataset's classes", classes, limits)?)
        }
        Some(dataset::Classes::Sized(classes)) => Classes::Sized {
            type_name: text("a dataset's classes' type_name", classes.type_name, limits)?,
            length: classes.length,
        },
    };
    Ok(Dataset {
        class_name: name("a dataset's class_name", said.class_name, limits)?,
        classes,
    })
}

#[cfg(test)]
mod tests {
    use super::super::LIMITS;
    use super::*;

    fn module(name: &str) -> wire::Module {
        wire::Module {
            name: name.to_owned(),
            class_name: "Head".to_owned(),
            ..Default::default()
        }
    }

    fn dataset(classes: Option<dataset::Classes>) -> wire::Dataset {
        wire::Dataset {
            class_name: "CocoDataset".to_owned(),
            classes,
        }
    }

    #[test]
    fn what_is_absent_stays_absent() {
        let empty = || dataset(Some(dataset::Classes::Text(String::new())));
        let none = wire::NumClasses {
            text: "None".to_owned(),
            number: None,
        };
        let said = wire::Description {
            number: 3,
            modules: vec![
                module(""),
                wire::Module {
                    num_classes: Some(none),
                    ..module("head")
                },
            ],
            datasets: [("val", empty()), ("test", dataset(None))]
                .map(|(phase, said)| (phase.to_owned(), said))
                .into(),
            ..Default::default()
        };
        let taken = super::description(said, &LIMITS).expect("valid");
        assert_eq!(taken.number, 3);
        assert_eq!(taken.modules[0].num_classes, None);
        let value = taken.modules[1].num_classes.as_ref();
        assert_eq!(
            value.map(|value| (value.text.as_str(), value.number)),
            Some(("None", None))
        );
        assert_eq!(taken.train, None);
        let val = taken.val.map(|val| val.classes);
        assert_eq!(
            val,
            Some(Classes::Str(String::new())),
            "an empty str is one"
        );
    }

    #[test]
    fn each_mistake_is_named() {
        let long = "x".repeat(65);
        let of = |modules| wire::Description {
            modules,
            ..Default::default()
        };
        for (said, says) in [
            (
                of(vec![module("m"); MODULES + 1]),
                "Description has 65537 modules, more than 65536",
            ),
            (
                of(vec![module(&long)]),
                "a module's name has 65 bytes, limits.string_bytes is 64",
            ),
            (
                of(vec![wire::Module::default()]),
                "a module's class_name is empty",
            ),
            (
                wire::Description {
                    datasets: [("train".to_owned(), wire::Dataset::default())].into(),
                    ..Default::default()
                },
                "a dataset's class_name is empty",
            ),
            (
                wire::Description {
                    datasets: [(
                        "val".to_owned(),
                        dataset(Some(dataset::Classes::Text(long.clone()))),
                    )]
                    .into(),
                    ..Default::default()
                },
                "a dataset's classes has 65 bytes",
            ),
        ] {
            let status = super::description(said, &LIMITS).expect_err("it is wrong");
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            let message = status.message();
            assert!(message.contains(says), "{message:?} does not say {says:?}");
        }
        assert!(super::description(of(vec![module("m"); MODULES]), &LIMITS).is_ok());
    }
}
