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

/// Who belongs to the side view at which the node stands.
fn stands_aside_with(world: &World, node: u64) -> Vec<u64> {
    let (_, node) = world.nodes.iter().find(|(id, _)| id.node == node).unwrap();
    let members = node.views.side().map_or(&[][..], |view| &view.members);
    members.iter().map(|member| member.id.node).collect()
}

fn cut_all_but(world: &mut World, links: &[(u64, u64)]) {
    let nodes: Vec<u64> = world.nodes.keys().map(|id| id.node).collect();
    let pairs = nodes.iter().flat_map(|a| nodes.iter().map(move |b| (*a, *b))).filter(|(a, b)| a < b);
    world.cut = pairs.filter(|pair| !links.contains(pair)).collect();
}

fn heals(world: &mut World) {
    world.cut.clear();
    live(world, 6_000);
    assert!(world.is_at_rest(), "{}", world.describe());
}

#[test]
fn each_half_of_a_split_cluster_goes_on_by_itself() {
    let mut world = founded(4);
    let before = stands(&world, 1);
    cut_all_but(&mut world, &[(1, 2), (3, 4), (1, EDGE), (2, EDGE)]);
    live(&mut world, 3_000);
    let aside = [1, 2, 3, 4, EDGE].map(|node| stands_aside_with(&world, node));
    assert_eq!(aside, [vec![1, 2], vec![1, 2], vec![3, 4], vec![3, 4], vec![1, 2]]);
    // They come together in threes, so that each sees a majority.
    cut_all_but(&mut world, &[(1, 2), (3, 4), (2, 3), (1, 3), (2, 4)]);
    live(&mut world, 3_000);
    assert!([1, 2, 3, 4].iter().all(|node| stands_aside_with(&world, *node).is_empty()));
    heals(&mut world);
    assert_eq!(stands(&world, 1).1, before.1);
}

#[test]
fn the_larger_part_needs_no_side_view() {
    let mut world = founded(5);
    cut_all_but(&mut world, &[(1, 2), (3, 4), (3, 5), (4, 5)]);
    live(&mut world, 3_000);
    let aside = [1, 2, 3, 4, 5].map(|node| stands_aside_with(&world, node));
    assert_eq!(aside, [vec![1, 2], vec![1, 2], vec![], vec![], vec![]]);
    heals(&mut world);
}

#[test]
fn groups_grow_and_shrink() {
    let mut world = founded(7);
    cut_all_but(&mut world, &[(1, 2), (2, 3)]);
    live(&mut world, 3_000);
    // The second reaches both others, and goes with the smaller one.
    let aside = [1, 2, 3, 4].map(|node| stands_aside_with(&world, node));
    assert_eq!(aside, [vec![1, 2], vec![1, 2], vec![3], vec![4]]);
    cut_all_but(&mut world, &[(1, 2), (1, 3), (2, 3)]);
    live(&mut world, 3_000);
    assert_eq!([1, 2, 3].map(|node| stands_aside_with(&world, node)), [vec![1, 2, 3], vec![1, 2, 3], vec![1, 2, 3]]);
    cut_all_but(&mut world, &[(2, 3)]);
    live(&mut world, 3_000);
    assert_eq!([1, 2, 3].map(|node| stands_aside_with(&world, node)), [vec![1], vec![2, 3], vec![2, 3]]);
    // A broken link is no reason for another group.
    let [two, three] = [2, 3].map(|node| NodeId { node, generation: 1 });
    let number = world.nodes[&two].views.side().unwrap().number;
    world.break_link(two, three);
    live(&mut world, 2_000);
    assert_eq!(world.nodes[&two].views.side().unwrap().number, number);
    heals(&mut world);
}
