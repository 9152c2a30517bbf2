//! A plan as text: what differs from the plan of its seed, as `clients=2,channels=1`.

use crate::{
    aimed,
    plan::{Mode, Plan},
};

/// The names of all that a plan holds besides its seed.
pub const NAMES: [&str; 20] = [
    "aim",
    "mode",
    "nodes",
    "edges",
    "workers",
    "clients",
    "channels",
    "redundancy",
    "required",
    "close",
    "active",
    "delay",
    "crash",
    "break",
    "cut",
    "pause",
    "suspect",
    "leave",
    "majority",
    "quiet",
];

const MODES: [(&str, Mode); 3] = [("planned", Mode::Planned), ("one", Mode::OneAtATime), ("wild", Mode::Wild)];

/// One field, as a number. Of a mode it is the place among the modes, of an aim the place among those, from 1.
pub fn get(plan: &Plan, name: &str) -> Option<u64> {
    Some(match name {
        "aim" => aimed::ALL.iter().position(|(_, aim)| Some(*aim) == plan.aim).map_or(0, |at| at as u64 + 1),
        "mode" => MODES.iter().position(|(_, mode)| *mode == plan.mode)? as u64,
        "nodes" => plan.nodes,
        "edges" => plan.edges,
        "workers" => plan.workers,
        "clients" => plan.clients as u64,
        "channels" => plan.channels as u64,
        "redundancy" => u64::from(plan.redundancy),
        "required" => u64::from(plan.required),
        "close" => plan.close_ms,
        "active" => plan.active_ms,
        "delay" => plan.delay_ms,
        "crash" => plan.faults.crash,
        "break" => plan.faults.break_link,
        "cut" => plan.faults.cut,
        "pause" => plan.faults.pause,
        "suspect" => plan.faults.suspect,
        "leave" => plan.faults.leave,
        "majority" => plan.faults.majority,
        "quiet" => plan.quiet_after_ms,
        _ => return None,
    })
}

/// The plan with another value there; `None` if there is no such field, or it can't be that.
pub fn with(plan: &Plan, name: &str, value: u64) -> Option<Plan> {
    let mut plan = plan.clone();
    match name {
        "aim" => plan.aim = value.checked_sub(1).and_then(|at| aimed::ALL.get(at as usize)).map(|(_, aim)| *aim),
        "mode" => plan.mode = MODES.get(usize::try_from(value).ok()?)?.1,
        "nodes" => plan.nodes = value,
        "edges" => plan.edges = value,
        "workers" => plan.workers = value,
        "clients" => plan.clients = usize::try_from(value).ok()?,
        "channels" => plan.channels = usize::try_from(value).ok()?,
        "redundancy" => plan.redundancy = u8::try_from(value).ok()?,
        "required" => plan.required = value > 0,
        "close" => plan.close_ms = value,
        "active" => plan.active_ms = value,
        "delay" => plan.delay_ms = value,
        "crash" => plan.faults.crash = value,
        "break" => plan.faults.break_link = value,
        "cut" => plan.faults.cut = value,
        "pause" => plan.faults.pause = value,
        "suspect" => plan.faults.suspect = value,
        "leave" => plan.faults.leave = value,
        "majority" => plan.faults.majority = value,
        "quiet" => plan.quiet_after_ms = value,
        _ => return None,
    }
    Some(plan)
}

/// What differs from the plan of the same seed.
pub fn spell(plan: &Plan) -> String {
    let of_seed = Plan::of(plan.seed);
    let differs = NAMES.iter().filter(|name| get(plan, name) != get(&of_seed, name));
    let said = differs.filter_map(|name| {
        let value = get(plan, name)?;
        let mode = MODES.get(value as usize).filter(|_| *name == "mode").map(|(mode, _)| (*mode).to_owned());
        Some(format!("{name}={}", mode.unwrap_or_else(|| value.to_string())))
    });
    said.collect::<Vec<_>>().join(",")
}

/// The plan with what the text says otherwise.
pub fn parse(plan: Plan, text: &str) -> Result<Plan, String> {
    let mut plan = plan;
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').ok_or(format!("{part}: not NAME=VALUE"))?;
        let mode = MODES.iter().position(|(mode, _)| *mode == value).filter(|_| name == "mode");
        let number = mode.map(|at| at as u64).or_else(|| value.parse().ok());
        let changed = number.and_then(|number| with(&plan, name, number));
        plan = changed.ok_or_else(|| format!("{part}: names are {}; values are numbers", NAMES.join(", ")))?;
    }
    if [plan.nodes, plan.workers, plan.clients as u64, plan.channels as u64].contains(&0) {
        return Err("at least one node, worker, client and channel is needed".to_owned());
    }
    Ok(plan)
}

#[test]
fn a_plan_survives_its_text() {
    for seed in 0..200 {
        let other = Plan { seed, quiet_after_ms: 70 * seed, ..Plan::of(seed + 1) };
        let text = spell(&other);
        let again = parse(Plan::of(seed), &text).unwrap();
        assert_eq!(format!("{again:?}"), format!("{other:?}"), "{text}");
        assert_eq!(spell(&Plan::of(seed)), "");
    }
    assert!(["clients", "cats=1", "clients=0"].iter().all(|text| parse(Plan::of(1), text).is_err()));
}
