//! From a rule's text to trees with types. The parser is rhai's, in its expression mode: no statements, no loops, no
//! functions of one's own, limits on depth and sizes. What it gives is not run by it: it takes two floats for equal that are
//! near each other, and infinity for not above 3. Everything that is wrong with a rule is found here, with its column.

mod calls;

use rhai::{Engine, Expr, FnCallExpr, ParseErrorType, Position, Stmt};

use super::functions::{FUNCTIONS, find};
use super::inputs::Input;
use super::source::{Source, Wrong};
use super::tree::{Arithmetic, Comparison, Number, Text, Truth};
use super::windows::{Series, Window};
pub(super) use calls::arguments;

/// Brackets, operators and calls in each other; of operators in a row each one is in the next.
const DEPTH: usize = 64;
const TOO_DEEP: &str =
    "it has more than 64 brackets, operators and calls in each other or in a row";
/// Things that one rule reads.
const INPUTS: usize = 64;

/// What is wrong, where in the text that the parser had.
type Fault = (Position, String);

/// Any expression.
#[derive(Debug)]
pub(super) enum Node {
    Number(Number),
    Truth(Truth),
    Text(Text),
}

impl Node {
    fn word(&self) -> &'static str {
        match self {
            Self::Number(_) => "a number",
            Self::Truth(_) => "true or false",
            Self::Text(_) => "a text",
        }
    }
}

/// A call at the top of a text, with its arguments.
pub(super) struct Call {
    pub(super) name: String,
    pub(super) at: Position,
    pub(super) args: Vec<(Node, Position)>,
}

/// Reads the texts of one rule, and gathers what they read.
pub(super) struct Reader {
    engine: Engine,
    pub(super) inputs: Vec<Input>,
    pub(super) series: Vec<Series>,
    pub(super) windows: Vec<Window>,
    /// Inside a window's first argument.
    in_window: bool,
    /// Of a name that is called at the top of a text only.
    is_action: fn(&str) -> bool,
}

impl Reader {
    pub(super) fn new(is_action: fn(&str) -> bool) -> Self {
        let mut engine = Engine::new_raw();
        engine
            .set_max_expr_depths(DEPTH)
            .set_max_string_size(super::source::LONGEST);
        Self {
            engine,
            inputs: Vec::new(),
            series: Vec::new(),
            windows: Vec::new(),
            in_window: false,
            is_action,
        }
    }

    /// A condition.
    pub(super) fn condition(&mut self, written: &str) -> Result<Truth, Wrong> {
        self.read(written, |reader, expr| match reader.node(expr)? {
            Node::Truth(truth) => Ok(truth),
            other => Err((
                start(expr),
                format!(
                    "it is {}; it must be true or false, as in loss > 3",
                    other.word()
                ),
            )),
        })
    }

    /// An action: one call, which `make` takes.
    pub(super) fn action<T>(
        &mut self,
        written: &str,
        make: impl FnOnce(Call) -> Result<T, Fault>,
    ) -> Result<T, Wrong> {
        self.read(written, |reader, expr| {
            let example = "it must be one of a rule's actions, as in log('text')";
            let Expr::FnCall(call, at) = expr else {
                return Err((start(expr), example.to_owned()));
            };
            if call.op_token.is_some() {
                return Err((start(expr), example.to_owned()));
            }
            let args = call.args.iter().map(|arg| {
                let node = reader.node(arg)?;
                Ok((node, start(arg)))
            });
            let args = args.collect::<Result<_, Fault>>()?;
            make(Call {
                name: call.name.to_string(),
                at: *at,
                args,
            })
        })
    }

    fn read<T>(
        &mut self,
        written: &str,
        make: impl FnOnce(&mut Self, &Expr) -> Result<T, Fault>,
    ) -> Result<T, Wrong> {
        let source = Source::new(written)?;
        let placed = |(at, what): Fault| {
            let at = at.line().zip(Some(at.position().unwrap_or(1)));
            source.wrong(at, what)
        };
        let tree = self.engine.compile_expression(&source.text);
        let tree = tree.map_err(|error| {
            let what = match error.err_type() {
                ParseErrorType::ExprTooDeep => TOO_DEEP.to_owned(),
                other => unparsed(&other.to_string()),
            };
            placed((error.position(), what))
        })?;
        match tree.statements() {
            [Stmt::Expr(expr)] => make(self, expr).map_err(placed),
            // A call alone.
            [Stmt::FnCall(call, at)] => {
                make(self, &Expr::FnCall(call.clone(), *at)).map_err(placed)
            }
            _ => Err(source.wrong(None, ONE_EXPRESSION.to_owned())),
        }
    }

    fn node(&mut self, expr: &Expr) -> Result<Node, Fault> {
        Ok(match expr {
            Expr::IntegerConstant(value, _) => Node::Number(Number::Constant(*value as f64)),
            Expr::FloatConstant(value, _) => Node::Number(Number::Constant(**value)),
            Expr::BoolConstant(value, _) => Node::Truth(Truth::Constant(*value)),
            Expr::StringConstant(text, _) => Node::Text(Text::Constant(text.to_string())),
            Expr::Variable(variable, _, at) => {
                let input = Self::word(&variable.1).map_err(|what| (*at, what))?;
                Node::Number(self.input(input, *at)?)
            }
            Expr::And(each, _) => Node::Truth(Truth::All(self.truths(each)?)),
            Expr::Or(each, _) => Node::Truth(Truth::Any(self.truths(each)?)),
            Expr::FnCall(call, at) if call.op_token.is_some() => self.operator(call, *at)?,
            Expr::FnCall(call, at) => self.call(call, *at)?,
            other => {
                let what = "a rule has numbers, texts, comparisons and calls, and nothing else";
                return Err((start(other), what.to_owned()));
            }
        })
    }

    fn word(word: &str) -> Result<Input, String> {
        match find(word) {
            Some(place) => Err(format!(
                "{word} is called, as {}; a metric of this name is metric('{word}')",
                FUNCTIONS[place].call()
            )),
            None => Input::of(word),
        }
    }

    fn input(&mut self, input: Input, at: Position) -> Result<Number, Fault> {
        let known = self.inputs.iter().position(|known| *known == input);
        let place = match known {
            Some(place) => place,
            None if self.inputs.len() == INPUTS => {
                return Err((at, format!("a rule reads at most {INPUTS} things")));
            }
            None => {
                self.inputs.push(input);
                self.inputs.len() - 1
            }
        };
        Ok(Number::Input(place))
    }

    fn number(&mut self, expr: &Expr) -> Result<Number, Fault> {
        match self.node(expr)? {
            Node::Number(number) => Ok(number),
            other => Err(unfit(expr, &other, "a number")),
        }
    }

    fn truth(&mut self, expr: &Expr) -> Result<Truth, Fault> {
        match self.node(expr)? {
            Node::Truth(truth) => Ok(truth),
            other => Err(unfit(expr, &other, "true or false")),
        }
    }

    fn truths(&mut self, each: &[Expr]) -> Result<Vec<Truth>, Fault> {
        each.iter().map(|expr| self.truth(expr)).collect()
    }

    fn operator(&mut self, call: &FnCallExpr, at: Position) -> Result<Node, Fault> {
        let name = call.name.as_str();
        if let [one] = call.args.as_slice() {
            return match name {
                "!" => Ok(Node::Truth(Truth::Not(Box::new(self.truth(one)?)))),
                "-" => Ok(Node::Number(Number::Negative(Box::new(self.number(one)?)))),
                "+" => Ok(Node::Number(self.number(one)?)),
                _ => Err(no_operator(name, at)),
            };
        }
        let [left, right] = call.args.as_slice() else {
            return Err(no_operator(name, at));
        };
        let arithmetic = match name {
            "+" => return self.sum(left, right),
            "-" => Some(Arithmetic::Subtract),
            "*" => Some(Arithmetic::Multiply),
            "/" => Some(Arithmetic::Divide),
            "%" => Some(Arithmetic::Remainder),
            "**" => Some(Arithmetic::Power),
            _ => None,
        };
        if let Some(how) = arithmetic {
            let both = (self.number(left)?, self.number(right)?);
            if how == Arithmetic::Power && matches!(both.0, Number::Negative(_)) {
                let what =
                    "-x ** y is read as one or as the other: write -(x ** y) or (0 - x) ** y";
                return Err((at, what.to_owned()));
            }
            return Ok(Node::Number(Number::Of(how, Box::new(both))));
        }
        let comparison = match name {
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterOrEqual,
            "==" => Comparison::Equal,
            "!=" => Comparison::NotEqual,
            _ => return Err(no_operator(name, at)),
        };
        let left_node = self.node(left)?;
        let is_equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
        match (left_node, self.node(right)?) {
            (Node::Number(left), Node::Number(right)) => Ok(Node::Truth(Truth::Compare(
                comparison,
                Box::new((left, right)),
            ))),
            (Node::Truth(left), Node::Truth(right)) if is_equality => Ok(Node::Truth(Truth::Same(
                comparison == Comparison::Equal,
                Box::new((left, right)),
            ))),
            (Node::Truth(_), Node::Number(_)) => Err((
                at,
                format!("the left of {name} is true or false; a range is said as 0 < x && x < 1"),
            )),
            (left, right) => Err((
                at,
                format!(
                    "{} {name} {}: only numbers compare",
                    left.word(),
                    right.word()
                ),
            )),
        }
    }

    /// Of numbers; or texts one after the other.
    fn sum(&mut self, left: &Expr, right: &Expr) -> Result<Node, Fault> {
        let text = |node| match node {
            Node::Number(number) => Text::Number(number),
            Node::Truth(truth) => Text::Truth(truth),
            Node::Text(text) => text,
        };
        match (self.node(left)?, self.node(right)?) {
            (Node::Number(left), Node::Number(right)) => Ok(Node::Number(Number::Of(
                Arithmetic::Add,
                Box::new((left, right)),
            ))),
            (left, right) if matches!(left, Node::Text(_)) || matches!(right, Node::Text(_)) => {
                Ok(Node::Text(Text::Both(Box::new((text(left), text(right))))))
            }
            (Node::Truth(_), _) => {
                Err(unfit(left, &Node::Truth(Truth::Constant(true)), "a number"))
            }
            (_, other) => Err(unfit(right, &other, "a number")),
        }
    }
}

const ONE_EXPRESSION: &str = "it must be one expression, without statements";

/// The parser's words, for somebody who does not know it.
fn unparsed(what: &str) -> String {
    let statement = [
        "let", "const", "if", "switch", "while", "loop", "for", "fn", "return", "import", "throw",
    ];
    let word = what.split('\'').nth(1).unwrap_or_default();
    match word {
        "and" => return "there is no and here; say &&".to_owned(),
        "or" => return "there is no or here; say ||".to_owned(),
        _ if what == "Script is incomplete" => return "something is missing here".to_owned(),
        _ => {}
    }
    if word == ";" || word == "{" || word == "=" || statement.contains(&word) {
        return format!("there is no {word} here: {ONE_EXPRESSION}");
    }
    let mut letters = what.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

/// Where an expression begins; brackets around it are not in the tree.
fn start(expr: &Expr) -> Position {
    match expr {
        Expr::FnCall(call, _) if call.op_token.is_some() && call.args.len() == 2 => {
            start(&call.args[0])
        }
        Expr::And(each, at) | Expr::Or(each, at) => each.first().map_or(*at, start),
        other => other.start_position(),
    }
}

fn unfit(expr: &Expr, is: &Node, must_be: &str) -> Fault {
    let what = format!("it is {}; it must be {must_be}", is.word());
    (start(expr), what)
}

fn no_operator(name: &str, at: Position) -> Fault {
    let meant = match name {
        "&" => "; do you mean &&?",
        "|" => "; do you mean ||?",
        "^" => "; a power is a ** b",
        _ => "",
    };
    (at, format!("there is no operator {name}{meant}"))
}
