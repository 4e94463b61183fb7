use serde_json::Value;

use super::*;
use crate::judge::{judge, testing::World};

fn index(board: &Board) -> Value {
    serde_json::from_slice(&board.index().unwrap()).unwrap()
}

fn observe(board: &Board, event: Event) {
    board.clone().observe(&event).unwrap();
}

#[test]
fn a_scenario_is_running_until_it_is_judged_and_its_traces_open_from_then_on() {
    let board = Board::default();
    let changed = board.changed();
    observe(
        &board,
        Event::RunStarted {
            schema: 1,
            run_id: "0badcafe".to_owned(),
            environment: "process".to_owned(),
            scenarios: 1,
        },
    );
    observe(&board, Event::ScenarioStarted { name: "happy".to_owned(), requests: 2 });
    observe(&board, Event::CaseJudged { name: "happy".to_owned(), judged: 1 });
    assert!(changed.has_changed().unwrap());
    let shown = index(&board);
    assert_eq!((&shown["kind"], &shown["verdict"]), (&"run".into(), &"running".into()));
    assert_eq!(shown["scenarios"][0]["verdict"], "running");
    assert_eq!(shown["scenarios"][0]["description"], "1 of 2 requests are judged");

    let mut world = World::healthy();
    world.lose("sample-app-2");
    let id = world.record.cases[0].case.trace_id;
    assert!(board.trace(id).unwrap().is_none());
    board.judged(&world.record, &judge(&world.record));
    let shown = index(&board);
    assert_eq!(shown["scenarios"].as_array().unwrap().len(), 1);
    assert_eq!(shown["scenarios"][0]["verdict"], "fail");
    assert_eq!(shown["verdict"], "running");
    assert_eq!(shown["traces"][0]["id"], id.to_string());
    assert_eq!(shown["traces"][0]["verdict"], "fail");
    let detail: Value = serde_json::from_slice(&board.trace(id).unwrap().unwrap()).unwrap();
    assert_eq!(detail["trace"]["id"], id.to_string());
    assert!(!detail["failures"].as_array().unwrap().is_empty());

    let scenarios = vec![judge(&World::healthy().record)];
    let summary = Summary { scenarios, ..Summary::new("0badcafe".to_owned()) };
    observe(&board, Event::RunFinished { summary: Box::new(summary) });
    let shown = index(&board);
    assert_eq!(shown["verdict"], "pass");
    assert_eq!(shown["scenarios"][0]["verdict"], "pass");
}
