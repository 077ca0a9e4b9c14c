//! What the trainer's model and datasets are, as it last said. Sent only where it changed, and never beyond what the daemon
//! takes: a frame that is too large would end the session, again and again.

use hookbus_proto::v1::{self as wire, client_frame::Frame, dataset};
use prost::Message;

use crate::identity::cut;

/// The daemon takes no more modules.
const MODULES: usize = 65_536;

/// The latest description; its number is 0 as long as there is none.
#[derive(Debug, Default)]
pub(crate) struct Described(wire::Description);

impl Described {
    /// Takes what the trainer says now. True: it is something else than before. Modules without `num_classes` are left out:
    /// nobody compares them.
    pub(crate) fn take(&mut self, mut said: wire::Description) -> bool {
        said.modules.retain(|module| module.num_classes.is_some());
        let number = self.0.number;
        said.number = number;
        if number > 0 && said == self.0 {
            return false;
        }
        said.number = number + 1;
        self.0 = said;
        true
    }

    /// What is to be sent to a daemon with these limits; None: nothing was described. Errors: why it does not fit. What is
    /// sent then has its number and nothing else, so that the daemon compares nothing that is no longer true.
    pub(crate) fn fitted(&self, limits: &wire::Limits) -> Option<(Frame, Result<(), String>)> {
        if self.0.number == 0 {
            return None;
        }
        let mut fitted = self.0.clone();
        cut_texts(&mut fitted, limits.string_bytes as usize);
        let fits = fits(&fitted, limits);
        if fits.is_err() {
            fitted = wire::Description {
                number: self.0.number,
                ..wire::Description::default()
            };
        }
        Some((Frame::Description(fitted), fits))
    }
}

/// All but names: what a name ends with counts.
fn cut_texts(description: &mut wire::Description, most: usize) {
    let short = |text: &mut String| *text = cut(std::mem::take(text), most);
    short(&mut description.model_class);
    for module in &mut description.modules {
        short(&mut module.class_name);
        if let Some(value) = &mut module.num_classes {
            short(&mut value.text);
        }
    }
    for dataset in description.datasets.values_mut() {
        short(&mut dataset.class_name);
        match &mut dataset.classes {
            Some(dataset::Classes::Text(classes)) => short(classes),
            Some(dataset::Classes::Sized(classes)) => short(&mut classes.type_name),
            None => {}
        }
    }
}

fn fits(description: &wire::Description, limits: &wire::Limits) -> Result<(), String> {
    let modules = &description.modules;
    if modules.len() > MODULES {
        return Err(format!(
            "{} modules have num_classes, the daemon takes {MODULES}",
            modules.len()
        ));
    }
    let most = limits.string_bytes as usize;
    if let Some(module) = modules.iter().find(|module| module.name.len() > most) {
        return Err(format!(
            "a module's name has {} bytes, the daemon takes {most}: {}",
            module.name.len(),
            cut(module.name.clone(), 64)
        ));
    }
    // 16 bytes for what a frame puts around it.
    let bytes = description.encoded_len() + 16;
    let most = limits.frame_bytes as usize;
    if bytes > most {
        return Err(format!("it has {bytes} bytes, the daemon takes {most}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: wire::Limits = wire::Limits {
        frame_bytes: 65_536,
        string_bytes: 256,
        fields: 256,
        batch_events: 8192,
        in_flight_bytes: 4 << 20,
        metrics: 1024,
    };

    fn module(name: &str, num_classes: Option<f64>) -> wire::Module {
        wire::Module {
            name: name.to_owned(),
            class_name: "Head".to_owned(),
            num_classes: num_classes.map(|number| wire::NumClasses {
                text: number.to_string(),
                number: Some(number),
            }),
            ..wire::Module::default()
        }
    }

    fn of(modules: Vec<wire::Module>) -> wire::Description {
        wire::Description {
            model_class: "Net".to_owned(),
            modules,
            ..wire::Description::default()
        }
    }

    fn sent(described: &Described) -> (wire::Description, Result<(), String>) {
        match described.fitted(&LIMITS) {
            Some((Frame::Description(sent), fits)) => (sent, fits),
            other => panic!("no description: {other:?}"),
        }
    }

    #[test]
    fn only_a_change_counts() {
        let mut described = Described::default();
        assert!(described.fitted(&LIMITS).is_none());
        let net = || of(vec![module("", None), module("head", Some(5.0))]);
        assert!(described.take(net()));
        assert!(!described.take(net()));
        let numbered = wire::Description { number: 9, ..net() };
        assert!(!described.take(numbered), "the number is counted here");
        assert_eq!(sent(&described).0.number, 1);
        assert!(described.take(of(vec![module("head", Some(6.0))])));
        let (last, fits) = sent(&described);
        assert_eq!((last.number, fits), (2, Ok(())));
        let more = of(vec![module("head", Some(6.0)), module("neck", None)]);
        assert!(!described.take(more), "a module without num_classes");
    }

    #[test]
    fn what_the_daemon_would_not_take_is_not_sent() {
        let long = |bytes: usize| "x".repeat(bytes);
        let many = || vec![module(&long(60), Some(1.0)); 1000];
        for (modules, says) in [
            (
                vec![module(&long(257), Some(1.0))],
                "a module's name has 257 bytes",
            ),
            (many(), "the daemon takes 65536"),
            (vec![module("", Some(1.0)); 65_537], "65537 modules have"),
        ] {
            let mut described = Described::default();
            assert!(described.take(of(modules)));
            let (sent, fits) = sent(&described);
            let why = fits.expect_err(says);
            assert!(why.contains(says), "{why:?} does not say {says:?}");
            let nothing = wire::Description {
                number: 1,
                ..wire::Description::default()
            };
            assert_eq!(sent, nothing);
        }
    }

    #[test]
    fn texts_are_cut_where_only_people_read_them() {
        let classes = dataset::Classes::Text("ä".repeat(200));
        let train = wire::Dataset {
            class_name: "Coco".to_owned(),
            classes: Some(classes),
        };
        let mut described = Described::default();
        assert!(described.take(wire::Description {
            datasets: [("train".to_owned(), train)].into(),
            ..of(Vec::new())
        }));
        let (sent, fits) = sent(&described);
        assert_eq!(fits, Ok(()));
        let cut = dataset::Classes::Text("ä".repeat(128));
        assert_eq!(sent.datasets["train"].classes, Some(cut));
    }
}
