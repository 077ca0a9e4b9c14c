//! Who has which place, step by step.

use super::*;
use crate::providers::offer::tests::{asked, offering};

fn out() -> mpsc::Sender<ToProvider> {
    mpsc::channel(1).0
}

fn offer(names: &[&str]) -> Offer {
    Offer {
        hooks: names.iter().map(|name| offering(name, &[])).collect(),
        refused: Vec::new(),
    }
}

/// "module [hooks] link", and what is refused.
fn list(directory: &Directory) -> Vec<String> {
    let known = directory.known();
    let known = known.borrow();
    let lines = known.iter().map(|provider| {
        let hooks = provider.hooks.iter().flat_map(|hooks| hooks.iter());
        let hooks: Vec<_> = hooks.map(|hook| &*hook.request.name).collect();
        let link = match &provider.link {
            Ok(link) => format!("by {}", link.serial),
            Err(why) => why.clone(),
        };
        let refused = provider.refused.iter();
        let refused: String = refused
            .map(|(what, why)| format!("; {what}: {why}"))
            .collect();
        format!("{} [{}] {link}{refused}", provider.module, hooks.join(" "))
    });
    lines.collect()
}

fn seat(directory: &Directory, module: &str, ticket: &str) -> Seat {
    directory
        .introduce(module, ticket, Some(1000))
        .unwrap_or_else(|turned| panic!("{turned:?}"))
}

fn turned(directory: &Directory, module: &str, ticket: &str) -> (End, String) {
    let turned = directory.introduce(module, ticket, None).err();
    let turned = turned.expect("it may not come in");
    (turned.end, turned.text)
}

#[test]
fn what_is_asked_for_is_there_before_anybody_comes_and_stays_after() {
    let directory = Directory::new(vec![("m".to_owned(), vec![asked("a")])], Vec::new());
    let away = "its provider has not come yet";
    assert_eq!(list(&directory), [format!("m [] {away}; hook a: {away}")]);
    directory.starting("m", "one");
    directory.failed("m", "it exited");
    let gone = ["m [] it exited; hook a: it exited"];
    assert_eq!(list(&directory), gone);
    directory.starting("m", "two");
    let mut seat = seat(&directory, "m", "two");
    assert_eq!(seat.asked, [asked("a").request]);
    assert_eq!(list(&directory), gone, "it has offered nothing");
    let not = seat
        .offer(offer(&["a", "b"]), out())
        .expect("it has its place");
    assert_eq!(not.len(), 1, "{not:?}");
    let more = "; hook b: the daemon's configuration does not ask for it";
    assert_eq!(list(&directory), [format!("m [a] by 1{more}")]);
    seat.gone = "its connection broke".to_owned();
    drop(seat);
    assert_eq!(
        list(&directory),
        [format!("m [a] its connection broke{more}")]
    );
}

#[test]
fn only_the_process_that_was_started_last_has_the_place() {
    let directory = Directory::new(vec![("m".to_owned(), vec![asked("a")])], Vec::new());
    directory.starting("m", "one");
    for (ticket, text) in [
        ("", "which starts its provider itself"),
        ("x", "did not start"),
    ] {
        let (end, said) = turned(&directory, "m", ticket);
        assert!(end == End::Refused && said.contains(text), "{said}");
    }
    let mut first = seat(&directory, "m", "one");
    assert_eq!(turned(&directory, "m", "one").0, End::Duplicate);
    directory.starting("m", "two");
    let second = seat(&directory, "m", "two");
    let told = first.end.try_recv().expect("it is told");
    assert_eq!(told.end, End::Superseded);
    assert!(
        first.offer(offer(&["a"]), out()).is_err(),
        "its place is gone"
    );
    drop(first);
    second
        .offer(offer(&["a"]), out())
        .expect("it has its place");
    assert_eq!(list(&directory), [format!("m [a] by {}", second.serial)]);
}

#[test]
fn by_hand_a_module_comes_and_one_that_offers_nothing_leaves_nothing() {
    let reserved = vec![("taken".to_owned(), "the configuration".to_owned())];
    let directory = Directory::new(Vec::new(), reserved);
    let first = seat(&directory, "m", "");
    assert_eq!(list(&directory), [""; 0]);
    let not = first
        .offer(offer(&["taken", "a"]), out())
        .expect("its place");
    assert!(
        not[0].1.contains("is taken by the configuration"),
        "{not:?}"
    );
    assert_eq!(list(&directory).len(), 1);
    drop(first);
    let again = seat(&directory, "m", "");
    again.offer(Offer::default(), out()).expect("its place");
    drop(again);
    assert_eq!(list(&directory), [""; 0]);
    let many: Vec<_> = (0..MODULES)
        .map(|at| seat(&directory, &at.to_string(), ""))
        .collect();
    assert_eq!(turned(&directory, "more", "").0, End::OverLimit);
    drop(many);
    directory.shutdown();
    assert_eq!(turned(&directory, "m", "").0, End::Shutdown);
}

#[test]
fn a_connection_that_does_not_answer_is_seen() {
    let directory = Directory::new(Vec::new(), Vec::new());
    let now = Instant::now();
    assert_eq!(directory.silent("m", now), None);
    let seat = seat(&directory, "m", "");
    seat.pulse.called(1, now);
    let later = now + Duration::from_secs(7);
    assert_eq!(
        directory.silent("m", later),
        Some((Duration::from_secs(7), 1))
    );
}

#[tokio::test]
async fn settled_is_when_each_module_has_offered_or_failed() {
    let both = ["m", "n"].map(|module| (module.to_owned(), vec![asked(module)]));
    let directory = Directory::new(both.to_vec(), Vec::new());
    let waiting = directory.clone();
    let settled = tokio::spawn(async move { waiting.settled().await });
    directory.failed("m", "it exited");
    tokio::task::yield_now().await;
    assert!(!settled.is_finished(), "n is on its way");
    let seat = seat(&directory, "n", "");
    seat.offer(offer(&["n"]), out()).expect("its place");
    settled.await.expect("it is settled");
}
