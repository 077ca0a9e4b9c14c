//! From a key to what is meant by it. Pure.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What keys are for at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// The panes have them.
    Panes,
    /// Something lies over the panes, to be read.
    Page,
    /// Letters are typed.
    Text,
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Quit,
    /// To the shell, and back with `fg`.
    Suspend,
    Redraw,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    NextPane,
    PreviousPane,
    Sort,
    Filter,
    /// Enter.
    Pick,
    /// Esc: away with what lies on top.
    Back,
    Help,
    Pause,
    Stop,
    LearningRate,
    /// Charts over a longer time.
    Longer,
    Shorter,
    Letter(char),
    Erase,
    EraseAll,
}

/// None: a key that means nothing.
pub(super) fn action(key: KeyEvent, keys: Keys) -> Option<Action> {
    use Action::*;
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match (key.code, keys) {
            (KeyCode::Char('c'), _) => Some(Quit),
            (KeyCode::Char('z'), _) => Some(Suspend),
            (KeyCode::Char('l'), _) => Some(Redraw),
            (KeyCode::Char('u'), Keys::Text) => Some(EraseAll),
            (KeyCode::Char('u'), _) => Some(PageUp),
            (KeyCode::Char('d'), Keys::Panes | Keys::Page) => Some(PageDown),
            _ => None,
        };
    }
    let moved = match key.code {
        KeyCode::Up => Some(Up),
        KeyCode::Down => Some(Down),
        KeyCode::PageUp => Some(PageUp),
        KeyCode::PageDown => Some(PageDown),
        KeyCode::Home => Some(First),
        KeyCode::End => Some(Last),
        KeyCode::Enter => Some(Pick),
        KeyCode::Esc => Some(Back),
        _ => None,
    };
    if moved.is_some() {
        return moved;
    }
    match (keys, key.code) {
        (Keys::Text, KeyCode::Backspace) => Some(Erase),
        (Keys::Text, KeyCode::Char(letter)) => Some(Letter(letter)),
        (Keys::Text, _) => None,
        (_, KeyCode::Char('q')) if keys == Keys::Page => Some(Back),
        (_, KeyCode::Char('q')) => Some(Quit),
        (_, KeyCode::Char('?' | 'h') | KeyCode::F(1)) => Some(Help),
        (_, KeyCode::Char('k')) => Some(Up),
        (_, KeyCode::Char('j')) => Some(Down),
        (_, KeyCode::Char('g')) => Some(First),
        (_, KeyCode::Char('G')) => Some(Last),
        (Keys::Page, _) => None,
        (Keys::Panes, code) => match code {
            KeyCode::Tab | KeyCode::Right => Some(NextPane),
            KeyCode::BackTab | KeyCode::Left => Some(PreviousPane),
            KeyCode::Char('s') => Some(Sort),
            KeyCode::Char('/') => Some(Filter),
            KeyCode::Char(' ') => Some(Pause),
            KeyCode::Char('S') => Some(Stop),
            KeyCode::Char('L') => Some(LearningRate),
            KeyCode::Char('-') => Some(Longer),
            KeyCode::Char('+' | '=') => Some(Shorter),
            _ => None,
        },
    }
}

/// The page of keys: key, what it does, and whether only an armed viewer has it.
pub(super) const HELP: [(&str, &str, bool); 12] = [
    (
        "Up Down j k",
        "choose; PgUp PgDn Home End g G further",
        false,
    ),
    ("Tab Left Right", "the next pane, the one before", false),
    (
        "Enter",
        "runs: look at it; ranks: its processes; else: details",
        false,
    ),
    ("s", "sort the pane by something else", false),
    ("/", "show only what has these words; Esc: all again", false),
    ("Space", "hold the picture, and go on", false),
    ("+ -", "charts over a shorter or a longer time", false),
    (
        "Ctrl-L Ctrl-Z",
        "draw anew; to the shell, where fg comes back",
        false,
    ),
    ("S", "stop the run, once that was typed", true),
    ("L", "set its learning rate, once that was typed", true),
    ("? h Esc", "this page; close what lies on top", false),
    ("q Ctrl-C", "end; the training does not notice", false),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_means_one_thing_at_a_time() {
        use Action::*;
        let ctrl = KeyModifiers::CONTROL;
        let plain = KeyModifiers::NONE;
        type Row = (
            KeyCode,
            KeyModifiers,
            Option<Action>,
            Option<Action>,
            Option<Action>,
        );
        let letter = |letter| KeyCode::Char(letter);
        // key, in the panes, on a page, while typing
        let table: [Row; 26] = [
            (
                letter('q'),
                plain,
                Some(Quit),
                Some(Back),
                Some(Letter('q')),
            ),
            (letter('c'), ctrl, Some(Quit), Some(Quit), Some(Quit)),
            (
                letter('z'),
                ctrl,
                Some(Suspend),
                Some(Suspend),
                Some(Suspend),
            ),
            (letter('l'), ctrl, Some(Redraw), Some(Redraw), Some(Redraw)),
            (
                letter('u'),
                ctrl,
                Some(PageUp),
                Some(PageUp),
                Some(EraseAll),
            ),
            (letter('d'), ctrl, Some(PageDown), Some(PageDown), None),
            (KeyCode::Up, plain, Some(Up), Some(Up), Some(Up)),
            (letter('k'), plain, Some(Up), Some(Up), Some(Letter('k'))),
            (
                letter('j'),
                plain,
                Some(Down),
                Some(Down),
                Some(Letter('j')),
            ),
            (
                letter('g'),
                plain,
                Some(First),
                Some(First),
                Some(Letter('g')),
            ),
            (
                letter('G'),
                plain,
                Some(Last),
                Some(Last),
                Some(Letter('G')),
            ),
            (KeyCode::Tab, plain, Some(NextPane), None, None),
            (
                KeyCode::BackTab,
                KeyModifiers::SHIFT,
                Some(PreviousPane),
                None,
                None,
            ),
            (KeyCode::Enter, plain, Some(Pick), Some(Pick), Some(Pick)),
            (KeyCode::Esc, plain, Some(Back), Some(Back), Some(Back)),
            (letter('s'), plain, Some(Sort), None, Some(Letter('s'))),
            (
                letter('S'),
                KeyModifiers::SHIFT,
                Some(Stop),
                None,
                Some(Letter('S')),
            ),
            (
                letter('L'),
                KeyModifiers::SHIFT,
                Some(LearningRate),
                None,
                Some(Letter('L')),
            ),
            (letter('/'), plain, Some(Filter), None, Some(Letter('/'))),
            (letter(' '), plain, Some(Pause), None, Some(Letter(' '))),
            (
                letter('?'),
                plain,
                Some(Help),
                Some(Help),
                Some(Letter('?')),
            ),
            (letter('+'), plain, Some(Shorter), None, Some(Letter('+'))),
            (letter('-'), plain, Some(Longer), None, Some(Letter('-'))),
            (KeyCode::Backspace, plain, None, None, Some(Erase)),
            (KeyCode::F(1), plain, Some(Help), Some(Help), None),
            (letter('x'), plain, None, None, Some(Letter('x'))),
        ];
        for (code, modifiers, panes, page, text) in table {
            for (keys, wanted) in [(Keys::Panes, panes), (Keys::Page, page), (Keys::Text, text)] {
                let key = KeyEvent::new(code, modifiers);
                assert_eq!(action(key, keys), wanted, "{code:?} {keys:?}");
            }
        }
        let mut released = KeyEvent::new(letter('q'), plain);
        released.kind = KeyEventKind::Release;
        assert_eq!(action(released, Keys::Panes), None);
    }
}
