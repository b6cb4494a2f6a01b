//! A topological order that is the same in every run, or the cycle that prevents one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Orders `0..successors.len()` so that every node comes after its predecessors. Among the nodes
/// that could come next, the one with the lowest number does.
///
/// # Errors
/// The nodes of one cycle, in the direction of its edges, starting with its lowest number.
pub(crate) fn topological(successors: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    let mut waiting_for = vec![0usize; successors.len()];
    for &to in successors.iter().flatten() {
        if let Some(count) = waiting_for.get_mut(to) {
            *count += 1;
        }
    }
    let mut ready: BinaryHeap<Reverse<usize>> = waiting_for
        .iter()
        .enumerate()
        .filter(|(_, count)| **count == 0)
        .map(|(node, _)| Reverse(node))
        .collect();
    let mut order = Vec::with_capacity(successors.len());
    while let Some(Reverse(node)) = ready.pop() {
        order.push(node);
        for &to in successors.get(node).into_iter().flatten() {
            if let Some(count) = waiting_for.get_mut(to) {
                *count -= 1;
                if *count == 0 {
                    ready.push(Reverse(to));
                }
            }
        }
    }
    if order.len() == successors.len() {
        Ok(order)
    } else {
        Err(cycle(successors, &waiting_for))
    }
}

/// A cycle among the nodes that still wait for a predecessor.
///
/// Each of them has a predecessor that waits as well, so walking backwards must meet itself.
fn cycle(successors: &[Vec<usize>], waiting_for: &[usize]) -> Vec<usize> {
    let stuck = |node: usize| waiting_for.get(node).is_some_and(|count| *count > 0);
    let predecessor = |node: usize| {
        (0..successors.len())
            .find(|&from| stuck(from) && successors.get(from).is_some_and(|to| to.contains(&node)))
    };
    let mut walked: Vec<usize> = Vec::new();
    let mut at = (0..successors.len()).find(|&node| stuck(node));
    while let Some(node) = at {
        if let Some(met) = walked.iter().position(|&seen| seen == node) {
            let mut found = walked.split_off(met);
            found.reverse();
            let lowest = found.iter().min().copied();
            let start = found.iter().position(|node| Some(*node) == lowest);
            found.rotate_left(start.unwrap_or(0));
            return found;
        }
        walked.push(node);
        at = predecessor(node);
    }
    walked
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ties_are_broken_by_declaration() {
        assert_eq!(topological(&[vec![], vec![0], vec![0]]), Ok(vec![1, 2, 0]));
        assert_eq!(
            topological(&[vec![3], vec![3], vec![], vec![]]),
            Ok(vec![0, 1, 2, 3])
        );
    }

    #[test]
    fn a_node_that_leads_to_a_cycle_is_not_part_of_it() {
        // 0 -> 1 -> 2 -> 3 -> 1, and 3 -> 4
        let edges = [vec![1], vec![2], vec![3], vec![1, 4], vec![]];
        assert_eq!(topological(&edges), Err(vec![1, 2, 3]));
        assert_eq!(topological(&[vec![0]]), Err(vec![0]));
    }

    proptest! {
        #[test]
        fn every_edge_points_forward_or_closes_a_real_cycle(
            edges in proptest::collection::vec((0usize..12, 0usize..12), 0..30)
        ) {
            let mut successors = vec![Vec::new(); 12];
            for (from, to) in edges {
                successors[from].push(to);
            }
            match topological(&successors) {
                Ok(order) => {
                    let place = |node| order.iter().position(|&n| n == node).unwrap();
                    for (from, all) in successors.iter().enumerate() {
                        prop_assert!(all.iter().all(|&to| place(from) < place(to)));
                    }
                }
                Err(cycle) => {
                    prop_assert!(!cycle.is_empty());
                    for (i, from) in cycle.iter().enumerate() {
                        let to = cycle[(i + 1) % cycle.len()];
                        prop_assert!(successors[*from].contains(&to));
                    }
                }
            }
        }
    }
}
