//! What is run: nodes and the edges between them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::node::{Node, NodeOptions};
use crate::order;

/// A checked graph of nodes without cycles. Cheap to clone, immutable.
///
/// ```
/// use infra_graph::{StrategyGraph, node_fn};
/// use serde_json::json;
///
/// let graph = StrategyGraph::builder("momentum")
///     .node("price", node_fn(|_| async { Ok(json!(42)) }))
///     .node("signal", node_fn(|cx| async move { Ok(json!(cx.output::<i64>("price")? > 40)) }))
///     .edge("price", "signal")
///     .build()?;
/// assert_eq!(graph.node_ids().collect::<Vec<_>>(), ["price", "signal"]);
/// # Ok::<_, infra_graph::GraphError>(())
/// ```
#[derive(Clone)]
pub struct StrategyGraph {
    inner: Arc<Inner>,
}

struct Inner {
    id: Arc<str>,
    fingerprint: u64,
    /// In topological order: a node's number is its place in the order.
    nodes: Vec<Entry>,
}

pub(crate) struct Entry {
    pub(crate) id: Arc<str>,
    pub(crate) node: Arc<dyn Node>,
    pub(crate) options: NodeOptions,
    pub(crate) predecessors: Vec<usize>,
}

impl StrategyGraph {
    /// The longest graph or node id in bytes.
    pub const MAX_ID_LEN: usize = 128;

    /// Starts a graph named `id`: 1 to 128 bytes without control characters.
    pub fn builder(id: impl Into<String>) -> GraphBuilder {
        GraphBuilder {
            id: id.into(),
            nodes: Vec::new(),
            edges: Vec::new(),
        }
    }

    /// The graph's name.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// The ids of the nodes in the order in which they run one by one. The same in every process:
    /// among nodes that could come next, the one that was declared first does.
    pub fn node_ids(&self) -> impl ExactSizeIterator<Item = &str> {
        self.inner.nodes.iter().map(|entry| &*entry.id)
    }

    /// How many nodes there are; at least one.
    pub fn node_count(&self) -> usize {
        self.inner.nodes.len()
    }

    /// A number that changes when a node or an edge is added, removed or renamed. A checkpoint
    /// carries it, so that an execution is never resumed on another graph.
    pub fn fingerprint(&self) -> u64 {
        self.inner.fingerprint
    }

    pub(crate) fn shared_id(&self) -> Arc<str> {
        self.inner.id.clone()
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.inner.nodes
    }
}

impl fmt::Debug for StrategyGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StrategyGraph")
            .field("id", &self.inner.id)
            .field("nodes", &self.node_ids().collect::<Vec<_>>())
            .finish()
    }
}

/// Collects nodes and edges; see [`StrategyGraph::builder`].
#[must_use = "a graph is made by `build`"]
pub struct GraphBuilder {
    id: String,
    nodes: Vec<(String, Arc<dyn Node>, NodeOptions)>,
    edges: Vec<(String, String)>,
}

impl GraphBuilder {
    /// Adds a node with the default [`NodeOptions`].
    pub fn node(self, id: impl Into<String>, node: impl Node + 'static) -> Self {
        self.node_with(id, node, NodeOptions::default())
    }

    /// Adds a node with options of its own.
    pub fn node_with(
        mut self,
        id: impl Into<String>,
        node: impl Node + 'static,
        options: NodeOptions,
    ) -> Self {
        self.nodes.push((id.into(), Arc::new(node), options));
        self
    }

    /// Lets `to` run after `from`, with `from`'s output among its inputs. Both may be declared
    /// later; the same edge twice is the same as once.
    pub fn edge(mut self, from: impl Into<String>, to: impl Into<String>) -> Self {
        self.edges.push((from.into(), to.into()));
        self
    }

    /// An edge from each node of the list to the next.
    pub fn chain<I>(mut self, ids: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let ids: Vec<String> = ids.into_iter().map(Into::into).collect();
        let pairs = ids.iter().zip(ids.iter().skip(1));
        self.edges
            .extend(pairs.map(|(from, to)| (from.clone(), to.clone())));
        self
    }

    /// Checks everything.
    ///
    /// # Errors
    /// All problems at once: duplicate nodes, edges whose end does not exist, unusable ids, no
    /// node at all, and, when there is nothing else, a cycle.
    pub fn build(self) -> Result<StrategyGraph, GraphError> {
        let mut problems = Vec::new();
        let numbers = self.number_nodes(&mut problems);
        let successors = self.connect(&numbers, &mut problems);
        if !problems.is_empty() {
            return Err(self.error(problems));
        }
        match order::topological(&successors) {
            Ok(order) => Ok(self.finish(&order, &successors)),
            Err(cycle) => {
                let name = |n: &usize| self.nodes.get(*n).map(|node| node.0.clone());
                let cycle = cycle.iter().filter_map(name).collect();
                Err(self.error(vec![GraphProblem::Cycle(cycle)]))
            }
        }
    }

    fn number_nodes(&self, problems: &mut Vec<GraphProblem>) -> HashMap<&str, usize> {
        let unusable = |id: &str| {
            id.is_empty()
                || id.len() > StrategyGraph::MAX_ID_LEN
                || id.chars().any(char::is_control)
        };
        if unusable(&self.id) {
            problems.push(GraphProblem::InvalidId(self.id.escape_debug().to_string()));
        }
        if self.nodes.is_empty() {
            problems.push(GraphProblem::Empty);
        }
        let mut numbers = HashMap::new();
        for (number, (id, ..)) in self.nodes.iter().enumerate() {
            if unusable(id) {
                problems.push(GraphProblem::InvalidId(id.escape_debug().to_string()));
            }
            if numbers.insert(id.as_str(), number).is_some() {
                problems.push(GraphProblem::DuplicateNode(id.clone()));
            }
        }
        numbers
    }

    fn connect(
        &self,
        numbers: &HashMap<&str, usize>,
        problems: &mut Vec<GraphProblem>,
    ) -> Vec<Vec<usize>> {
        let mut successors = vec![Vec::new(); self.nodes.len()];
        for (from, to) in &self.edges {
            for end in [from, to] {
                if !numbers.contains_key(end.as_str()) {
                    problems.push(GraphProblem::MissingNode {
                        from: from.clone(),
                        to: to.clone(),
                        missing: end.clone(),
                    });
                }
            }
            let ends = (numbers.get(from.as_str()), numbers.get(to.as_str()));
            if let (Some(&from), Some(&to)) = ends
                && let Some(all) = successors.get_mut(from)
                && !all.contains(&to)
            {
                all.push(to);
            }
        }
        successors
    }

    fn finish(self, order: &[usize], successors: &[Vec<usize>]) -> StrategyGraph {
        let fingerprint = self.fingerprint();
        let mut parts: Vec<Option<_>> = self.nodes.into_iter().map(Some).collect();
        let mut nodes = Vec::with_capacity(order.len());
        for &number in order {
            let leads_here =
                |from: &usize| successors.get(*from).is_some_and(|to| to.contains(&number));
            let places = order.iter().enumerate();
            let predecessors = places
                .filter(|(_, from)| leads_here(from))
                .map(|(place, _)| place)
                .collect();
            if let Some((id, node, options)) = parts.get_mut(number).and_then(Option::take) {
                nodes.push(Entry {
                    id: id.into(),
                    node,
                    options,
                    predecessors,
                });
            }
        }
        StrategyGraph {
            inner: Arc::new(Inner {
                id: self.id.into(),
                fingerprint,
                nodes,
            }),
        }
    }

    /// FNV-1a over the sorted ids and edges: stable across processes and versions of Rust.
    fn fingerprint(&self) -> u64 {
        let mut ids: Vec<&str> = self.nodes.iter().map(|node| node.0.as_str()).collect();
        let mut edges: Vec<(&str, &str)> = self
            .edges
            .iter()
            .map(|(from, to)| (from.as_str(), to.as_str()))
            .collect();
        ids.sort_unstable();
        edges.sort_unstable();
        edges.dedup();
        let ends = edges.iter().flat_map(|(from, to)| [*from, "\u{1}", *to]);
        let bytes = ids.iter().copied().chain(["\u{2}"]).chain(ends);
        bytes
            .flat_map(|part| part.bytes().chain([0]))
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            })
    }

    fn error(&self, problems: Vec<GraphProblem>) -> GraphError {
        GraphError {
            graph: self.id.escape_debug().to_string(),
            problems,
        }
    }
}

impl fmt::Debug for GraphBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GraphBuilder")
            .field("id", &self.id)
            .field("edges", &self.edges)
            .finish_non_exhaustive()
    }
}

/// Why a graph cannot be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphError {
    graph: String,
    problems: Vec<GraphProblem>,
}

/// One thing that is wrong with a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum GraphProblem {
    /// There is no node.
    Empty,
    /// A graph or node id is empty, longer than 128 bytes, or has a control character.
    InvalidId(String),
    /// Two nodes have this id.
    DuplicateNode(String),
    /// An edge names a node that does not exist.
    MissingNode {
        /// Where the edge starts.
        from: String,
        /// Where it ends.
        to: String,
        /// Which of the two is missing.
        missing: String,
    },
    /// These nodes wait for each other; each leads to the next and the last to the first.
    Cycle(Vec<String>),
}

impl GraphError {
    /// What is wrong; at least one problem.
    pub fn problems(&self) -> &[GraphProblem] {
        &self.problems
    }
}

impl fmt::Display for GraphError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "graph '{}' cannot be built: ", self.graph)?;
        for (i, problem) in self.problems.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for GraphError {}

impl fmt::Display for GraphProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GraphProblem::Empty => f.write_str("it has no node"),
            GraphProblem::InvalidId(id) => {
                write!(f, "'{id}' is no id: 1 to 128 bytes, no control characters")
            }
            GraphProblem::DuplicateNode(id) => write!(f, "node '{id}' is declared twice"),
            GraphProblem::MissingNode { from, to, missing } => {
                write!(f, "edge '{from}' -> '{to}': there is no node '{missing}'")
            }
            GraphProblem::Cycle(nodes) => {
                let first = nodes.first().map_or("", String::as_str);
                write!(f, "cycle {} -> {first}", nodes.join(" -> "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_fn;
    use serde_json::Value;

    fn nodes(ids: &[&str]) -> GraphBuilder {
        ids.iter().fold(StrategyGraph::builder("g"), |graph, id| {
            graph.node(*id, node_fn(|_| async { Ok(Value::Null) }))
        })
    }

    #[test]
    fn order_does_not_depend_on_the_order_of_the_edges() {
        let one = nodes(&["a", "b", "c", "d"]).edge("c", "d").edge("a", "d");
        let two = nodes(&["a", "b", "c", "d"]).edge("a", "d").edge("c", "d");
        let (one, two) = (one.build().unwrap(), two.build().unwrap());
        assert_eq!(one.node_ids().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
        assert_eq!(one.fingerprint(), two.fingerprint());
        assert_eq!(one.entries()[3].predecessors, [0, 2]);
    }

    #[test]
    fn a_cycle_is_named_in_the_direction_of_its_edges() {
        let error = nodes(&["price", "signal", "order"])
            .chain(["price", "signal", "order", "signal"])
            .build()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "graph 'g' cannot be built: cycle signal -> order -> signal"
        );
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let error = nodes(&["a", "a", ""]).edge("a", "b").build().unwrap_err();
        assert_eq!(
            error.to_string(),
            "graph 'g' cannot be built: node 'a' is declared twice; '' is no id: 1 to 128 bytes, \
             no control characters; edge 'a' -> 'b': there is no node 'b'"
        );
        let error = StrategyGraph::builder("g").build().unwrap_err();
        assert_eq!(error.problems(), [GraphProblem::Empty]);
    }

    #[test]
    fn a_repeated_edge_counts_once() {
        let graph = nodes(&["a", "b"])
            .edge("a", "b")
            .edge("a", "b")
            .build()
            .unwrap();
        assert_eq!(graph.entries()[1].predecessors, [0]);
    }

    #[test]
    fn another_edge_gives_another_fingerprint() {
        let plain = nodes(&["a", "b"]).build().unwrap();
        let edge = nodes(&["a", "b"]).edge("a", "b").build().unwrap();
        assert_ne!(plain.fingerprint(), edge.fingerprint());
    }
}
