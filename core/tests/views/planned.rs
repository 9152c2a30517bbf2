//! Whole clusters without luck: founding, joining, leaving, and a split.

use appsockets_core::cluster::view::NodeId;

use crate::{
    fault::Fault,
    world::{EDGE, POINTS, World},
};

fn founded(cores: u64) -> World {
    let mut world = World::new(1, cores as usize, Fault::None);
    (1..=cores).for_each(|node| world.start(node, true));
    world.start(EDGE, false);
    live(&mut world, 4_000);
    assert!(world.is_at_rest(), "{}", world.describe());
    world
}

fn live(world: &mut World, ms: u64) {
    let end_ms = world.now_ms + ms;
    while world.now_ms < end_ms {
        world.mend(100);
        world.run_until(world.now_ms + 20).unwrap();
    }
}

/// Where the node stands: the number, and the members with their points.
fn stands(world: &World, node: u64) -> (u64, Vec<(u64, u16)>) {
    let (_, node) = world.nodes.iter().find(|(id, _)| id.node == node).unwrap();
    let view = node.views.view().unwrap();
    (view.number, view.members.iter().map(|member| (member.id.node, member.points)).collect())
}

#[test]
fn clusters_of_every_size_are_founded() {
    for cores in 1..=7 {
        let members: Vec<(u64, u16)> = (1..=cores).map(|node| (node, POINTS)).collect();
        assert_eq!(stands(&founded(cores), EDGE).1, members);
    }
}

#[test]
fn a_joiner_gets_its_points_in_three_steps_and_a_leaver_gives_them_in_three() {
    let mut world = founded(2);
    let (number, _) = stands(&world, 1);
    world.start(3, true);
    live(&mut world, 4_000);
    assert_eq!(stands(&world, 3), (number + 3, vec![(1, POINTS), (2, POINTS), (3, POINTS)]));
    let leaver = NodeId { node: 1, generation: 1 };
    world.nodes.get_mut(&leaver).unwrap().leaving = true;
    live(&mut world, 6_000);
    assert!(!world.runs(1));
    // The fourth view is the one without the leaver.
    assert_eq!(stands(&world, 3), (number + 7, vec![(2, POINTS), (3, POINTS)]));
    assert!(world.is_at_rest(), "{}", world.describe());
}

#[test]
fn the_smaller_part_of_a_split_cluster_stays_where_it_is() {
    let mut world = founded(5);
    let before = stands(&world, 1);
    world.cut = [1, 2].into_iter().flat_map(|a| [3, 4, 5, EDGE].map(|b| (a, b))).collect();
    live(&mut world, 10_000);
    assert_eq!((stands(&world, 1), stands(&world, 2)), (before.clone(), before.clone()));
    assert_eq!(stands(&world, 4), (before.0 + 1, vec![(3, POINTS), (4, POINTS), (5, POINTS)]));
    world.cut.clear();
    live(&mut world, 6_000);
    assert!(world.is_at_rest(), "{}", world.describe());
    assert_eq!(stands(&world, 1).1, before.1);
}
