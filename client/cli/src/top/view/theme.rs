//! Signs and colours. Every meaning has a sign of its own, so that nothing is lost without colour; the colours are those of
//! Okabe and Ito, which people with any kind of colour vision tell apart, as the nearest of the 256 that terminals know.

use ratatui::style::{Color, Modifier, Style};

use super::super::model::bars::Kind;

const ORANGE: Color = Color::Indexed(214);
const SKY_BLUE: Color = Color::Indexed(74);
const GREEN: Color = Color::Indexed(36);
const YELLOW: Color = Color::Indexed(227);
const VERMILION: Color = Color::Indexed(166);
const PURPLE: Color = Color::Indexed(175);

/// With colour or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::top) struct Theme {
    pub(in crate::top) colour: bool,
}

impl Theme {
    fn of(self, colour: Color) -> Style {
        if self.colour {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    /// To look at: always beside a "!".
    pub(super) fn alert(self) -> Style {
        self.of(VERMILION).add_modifier(Modifier::BOLD)
    }

    pub(super) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Said, and not the point.
    pub(super) fn quiet(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// What the cursor is on: always beside a ">".
    pub(super) fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    pub(super) fn progress(self) -> Style {
        self.of(GREEN)
    }

    pub(super) fn chart(self) -> Style {
        self.of(SKY_BLUE)
    }

    /// Where an epoch begins.
    pub(super) fn mark(self) -> Style {
        self.of(ORANGE)
    }

    pub(super) fn segment(self, kind: Kind) -> Style {
        match kind {
            Kind::First => self.of(SKY_BLUE),
            Kind::Second => self.of(ORANGE),
            Kind::Third => self.of(GREEN),
            Kind::Cache => self.of(YELLOW),
            Kind::Rest => self.of(PURPLE),
            Kind::Free => self.quiet(),
        }
    }
}

/// What a segment is drawn with.
pub(super) fn sign(kind: Kind) -> &'static str {
    match kind {
        Kind::First => "█",
        Kind::Second => "▓",
        Kind::Third => "▒",
        Kind::Cache => "░",
        Kind::Rest => "%",
        Kind::Free => "·",
    }
}
