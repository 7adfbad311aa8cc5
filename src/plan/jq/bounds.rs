//! What keeps a filter from running on for ever: programs are rewritten before they are compiled.
//!
//! Whatever can repeat (functions that call themselves, `range`, what `[…]`, `reduce` and `foreach`
//! draw from) counts its steps, looks how deep the stack is and how large a value has grown. The
//! bounds count steps and not time, so that the same value always comes to the same end.

use std::cell::Cell;

use jaq_core::box_iter::box_once;
use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Def, Pattern, Term};
use jaq_core::native::{Fun, bome, v};
use jaq_core::path::{Part, Path};
use jaq_core::{DataT, Error, Exn, Lut, Native, ops};
use jaq_json::{Num, Val};

use super::MOST_DEPTH;

/// Most bytes or elements of a value that is put together in a loop.
pub(super) const MOST_SIZE: usize = 64 << 20;
/// Most bits of an integer that is reckoned in a loop.
const MOST_BITS: u64 = 1 << 17;
/// Most bytes of stack below the call; threads have two MiB.
const MOST_STACK: usize = 768 << 10;

/// Names that no filter can spell.
const STEP: &str = "!step";
const PASS: &str = "!pass";
const TIMES: &str = "!times";
const UNUSED: &str = "$!";
const FACTOR: &str = "$!factor";

/// What a filter runs under: jaq's table of the program, and the bounds.
pub(super) struct Bounded;

/// What is left of the bounds.
#[derive(Clone, Copy)]
pub(super) struct Bounds<'a> {
    lut: &'a Lut<Bounded>,
    steps: &'a Cell<u64>,
    /// Where the stack was when the filter began.
    stack: usize,
}

impl DataT for Bounded {
    type V<'a> = Val;
    type Data<'a> = Bounds<'a>;
}

impl<'a> jaq_core::data::HasLut<'a, Bounded> for Bounds<'a> {
    fn lut(&self) -> &'a Lut<Bounded> {
        self.lut
    }
}

impl<'a> Bounds<'a> {
    /// For a program that begins now.
    pub(super) fn new(lut: &'a Lut<Bounded>, steps: &'a Cell<u64>) -> Self {
        Self {
            lut,
            steps,
            stack: stack(),
        }
    }
}

/// About where the stack is: the address of something that stands on it.
fn stack() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(&here).addr()
}

pub(super) fn count(bounds: &Bounds<'_>) -> Result<(), Error<Val>> {
    let Some(left) = bounds.steps.get().checked_sub(1) else {
        return Err(Error::str("it takes too many steps for one value"));
    };
    bounds.steps.set(left);
    Ok(())
}

/// Counts a step, and looks at the value that it begins with.
fn step(bounds: &Bounds<'_>, value: &Val) -> Result<(), Error<Val>> {
    count(bounds)?;
    if bounds.stack.abs_diff(stack()) > MOST_STACK {
        return Err(Error::str("it calls itself too deep"));
    }
    let large = match value {
        Val::TStr(text) | Val::BStr(text) => text.len() > MOST_SIZE,
        Val::Arr(list) => list.len() > MOST_SIZE / size_of::<Val>(),
        Val::Num(Num::BigInt(number)) => number.bits() > MOST_BITS,
        _ => false,
    };
    if large {
        return Err(Error::str("a value grows too large"));
    }
    if is_deep(value) {
        return Err(Error::str(format_args!(
            "a value grows deeper than {MOST_DEPTH} levels"
        )));
    }
    Ok(())
}

/// Whether the way down its first or its last members has no near end: what a loop nests, it
/// nests at one of the two.
fn is_deep(value: &Val) -> bool {
    let deep = |inner: fn(&Val) -> Option<&Val>| {
        let mut at = value;
        for _ in 0..=MOST_DEPTH {
            match inner(at) {
                Some(next) => at = next,
                None => return false,
            }
        }
        true
    };
    deep(|value| match value {
        Val::Arr(list) => list.first(),
        Val::Obj(members) => members.first().map(|(_, member)| member),
        _ => None,
    }) || deep(|value| match value {
        Val::Arr(list) => list.last(),
        Val::Obj(members) => members.last().map(|(_, member)| member),
        _ => None,
    })
}

/// jaq's own functions without those that are withheld, and ours that keep the bounds.
pub(super) fn natives() -> impl Iterator<Item = Fun<Bounded>> {
    let theirs = jaq_core::funs::<Bounded>()
        .chain(jaq_std::funs())
        .chain(jaq_json::funs());
    let step_only: Native<Bounded> =
        Native::new(|cv| bome(step(cv.0.data(), &cv.1).map(|()| Val::Null)));
    let pass: Native<Bounded> = Native::new(|cv| bome(step(cv.0.data(), &cv.1).map(|()| cv.1)))
        .with_paths(|cv| {
            let judged = step(cv.0.data(), &cv.1.0).map_err(Exn::from);
            box_once(judged.map(|()| cv.1))
        })
        .with_update(|cv, update| match step(cv.0.data(), &cv.1) {
            Ok(()) => update(cv.1),
            Err(error) => bome(Err(error)),
        });
    let times: Native<Bounded> = Native::new(|mut cv| {
        let right = cv.0.pop_var();
        let left = cv.0.pop_var();
        bome(times(left, right))
    });
    theirs.chain([
        (STEP, v(0), step_only),
        (PASS, v(0), pass),
        (TIMES, v(2), times),
    ])
}

/// A product; that of a text and a number repeats the text.
fn times(left: Val, right: Val) -> Result<Val, Error<Val>> {
    if let (Val::TStr(text) | Val::BStr(text), Val::Num(number))
    | (Val::Num(number), Val::TStr(text) | Val::BStr(text)) = (&left, &right)
    {
        let most = MOST_SIZE / text.len().max(1);
        let times = number
            .as_isize()
            .and_then(|n| usize::try_from(n.max(0)).ok());
        let is_integer = matches!(number, Num::Int(_) | Num::BigInt(_));
        if is_integer && times.is_none_or(|times| times > most) && !is_negative(number) {
            return Err(Error::str("a value grows too large"));
        }
    }
    left * right
}

fn is_negative(number: &Num) -> bool {
    number < &Num::Int(0)
}

/// A definition that counts its calls if it calls itself. All that runs on in a circle comes by such
/// a call: jq lets a function call itself and those around it, and none that comes later.
pub(super) fn bounded_def<'s>(
    def: Def<&'s str>,
    calls: &mut dyn FnMut(&'s str, usize),
) -> Def<&'s str> {
    let itself = (def.name, def.args.len());
    let mut calls_itself = false;
    let body = bounded(def.body, &mut |name, args| {
        calls_itself |= (name, args) == itself;
        calls(name, args);
    });
    Def {
        name: def.name,
        args: def.args,
        body: if calls_itself { stepped(body) } else { body },
    }
}

/// `step as $unused | term`: works for values, paths and updates alike.
fn stepped(term: Term<&str>) -> Term<&str> {
    let unused = BinaryOp::Pipe(Some(Pattern::Var(UNUSED)));
    Term::BinOp(call(STEP), unused, Box::new(term))
}

/// `term | pass`: each output is a step.
fn each(term: Term<&str>) -> Term<&str> {
    Term::BinOp(Box::new(term), BinaryOp::Pipe(None), call(PASS))
}

fn call<'s>(name: &'static str) -> Box<Term<&'s str>> {
    Box::new(Term::Call(name, Vec::new()))
}

/// The term with what can repeat made to count; tells `calls` of every call.
fn bounded<'s>(term: Term<&'s str>, calls: &mut dyn FnMut(&'s str, usize)) -> Term<&'s str> {
    let mut go = |term| bounded(term, calls);
    match term {
        Term::Id | Term::Recurse | Term::Num(_) | Term::Break(_) | Term::Var(_) => term,
        Term::Str(format, parts) => {
            let parts = parts.into_iter().map(|part| match part {
                StrPart::Str(text) => StrPart::Str(text),
                StrPart::Char(character) => StrPart::Char(character),
                StrPart::Term(term) => StrPart::Term(go(term)),
            });
            Term::Str(format, parts.collect())
        }
        Term::Arr(inner) => Term::Arr(inner.map(|inner| Box::new(each(go(*inner))))),
        Term::Obj(members) => {
            let members = members.into_iter().map(|(k, v)| (go(k), v.map(&mut go)));
            Term::Obj(members.collect())
        }
        Term::Neg(inner) => Term::Neg(Box::new(go(*inner))),
        Term::BinOp(left, BinaryOp::Math(ops::Math::Mul), right) => {
            Term::Call(TIMES, vec![go(*left), go(*right)])
        }
        Term::BinOp(left, BinaryOp::UpdateMath(ops::Math::Mul), right) => {
            let product = Term::Call(TIMES, vec![Term::Id, Term::Var(FACTOR)]);
            let update = Term::BinOp(Box::new(go(*left)), BinaryOp::Update, Box::new(product));
            let factor = BinaryOp::Pipe(Some(Pattern::Var(FACTOR)));
            Term::BinOp(Box::new(go(*right)), factor, Box::new(update))
        }
        Term::BinOp(left, op, right) => {
            let left = Box::new(go(*left));
            let op = match op {
                BinaryOp::Pipe(Some(bound)) => BinaryOp::Pipe(Some(pattern(bound, &mut go))),
                op => op,
            };
            Term::BinOp(left, op, Box::new(go(*right)))
        }
        Term::Label(name, inner) => Term::Label(name, Box::new(go(*inner))),
        Term::Fold(kind, source, bound, parts) => {
            let source = Box::new(each(go(*source)));
            let bound = pattern(bound, &mut go);
            let parts = parts.into_iter().enumerate().map(|(at, part)| match at {
                1 => stepped(go(part)),
                _ => go(part),
            });
            Term::Fold(kind, source, bound, parts.collect())
        }
        Term::TryCatch(inner, caught) => {
            let inner = Box::new(go(*inner));
            Term::TryCatch(inner, caught.map(|caught| Box::new(go(*caught))))
        }
        Term::IfThenElse(ways, other) => {
            let ways = ways.into_iter().map(|(when, then)| (go(when), go(then)));
            let ways = ways.collect();
            Term::IfThenElse(ways, other.map(|other| Box::new(go(*other))))
        }
        Term::Def(definitions, inner) => {
            let definitions = definitions.into_iter();
            let definitions = definitions.map(|def| bounded_def(def, calls)).collect();
            Term::Def(definitions, Box::new(bounded(*inner, calls)))
        }
        Term::Call(name, args) => {
            let count = args.len();
            let args = args.into_iter().map(&mut go).collect();
            calls(name, count);
            let term = Term::Call(name, args);
            if name == "range" && count == 3 {
                each(term)
            } else {
                term
            }
        }
        Term::Path(inner, path) => {
            let inner = Box::new(go(*inner));
            let parts = path.0.into_iter().map(|(part, opt)| {
                let part = match part {
                    Part::Index(index) => Part::Index(go(index)),
                    Part::Range(from, to) => Part::Range(from.map(&mut go), to.map(&mut go)),
                };
                (part, opt)
            });
            Term::Path(inner, Path(parts.collect()))
        }
    }
}

fn pattern<'s>(
    bound: Pattern<&'s str>,
    go: &mut impl FnMut(Term<&'s str>) -> Term<&'s str>,
) -> Pattern<&'s str> {
    match bound {
        Pattern::Var(name) => Pattern::Var(name),
        Pattern::Arr(all) => Pattern::Arr(all.into_iter().map(|one| pattern(one, go)).collect()),
        Pattern::Obj(all) => {
            let all = all
                .into_iter()
                .map(|(key, one)| (go(key), pattern(one, go)));
            Pattern::Obj(all.collect())
        }
    }
}
