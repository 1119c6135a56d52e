//! Asking every other node until it says something, or is not there any more.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use parking_lot::Mutex;

use crate::domain::ids::NodeRun;

/// How long other nodes are asked, and with what pause.
#[derive(Debug, Clone, Copy)]
pub(super) struct Insistence {
    pub length: Duration,
    pub pause: Duration,
}

/// How long a node that was asked again in vain is asked only once each time, unless it says something.
const REST: Duration = Duration::from_secs(300);

/// The nodes that are in the view, and do not say what they are asked.
#[derive(Debug, Default)]
pub(super) struct Silent(Mutex<HashMap<NodeRun, Instant>>);

impl Silent {
    fn note(&self, run: &NodeRun) {
        self.0.lock().insert(run.clone(), Instant::now());
    }

    fn rests(&self, run: &NodeRun) -> bool {
        self.0.lock().get(run).is_some_and(|since| since.elapsed() < REST)
    }

    /// A node speaks again.
    pub fn forget(&self, run: &NodeRun) {
        self.0.lock().remove(run);
    }

    /// Only these runs are there any more.
    pub fn keep(&self, is_live: impl Fn(&NodeRun) -> bool) {
        self.0.lock().retain(|run, _| is_live(run));
    }
}

impl Insistence {
    /// Asks each of these nodes until it says something. One that is not among them any more is not asked again, and one
    /// that has come back is another run.
    pub(super) async fn until_all_say<A, F: Future<Output = Option<A>>>(
        self,
        others: impl Fn() -> Vec<NodeRun>,
        silent: &Silent,
        ask: impl Fn(NodeRun) -> F,
    ) -> Vec<(NodeRun, A)> {
        let (mut said, mut asked, begun) = (Vec::new(), others(), Instant::now());
        while !asked.is_empty() {
            let answers = join_all(asked.iter().cloned().map(&ask)).await;
            let mut left = Vec::new();
            for (run, answer) in asked.into_iter().zip(answers) {
                match answer {
                    Some(answer) => {
                        silent.forget(&run);
                        said.push((run, answer));
                    }
                    None => left.push(run.node),
                }
            }
            asked = others();
            asked.retain(|run| left.contains(&run.node) && !silent.rests(run));
            if asked.is_empty() {
                break;
            }
            if begun.elapsed() >= self.length {
                asked.iter().for_each(|run| silent.note(run));
                break;
            }
            tokio::time::sleep(self.pause).await;
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Generation;

    fn run(node: &str, generation: u64) -> NodeRun {
        NodeRun { node: node.parse().unwrap(), generation: Generation(generation) }
    }

    const LONG: Insistence = Insistence { length: Duration::from_secs(3600), pause: Duration::from_millis(1) };

    /// Asks nodes that say something after so many questions; how often each was asked, and who has said something.
    async fn ask(how: Insistence, silent: &Silent, nodes: &[(&NodeRun, usize)]) -> (Vec<usize>, Vec<NodeRun>) {
        let counts = Mutex::new(vec![0; nodes.len()]);
        let others = || nodes.iter().map(|(run, _)| (*run).clone()).collect();
        let said = how.until_all_say(others, silent, |run| {
            let at = nodes.iter().position(|(node, _)| **node == run).unwrap();
            counts.lock()[at] += 1;
            let says = counts.lock()[at] > nodes[at].1;
            async move { says.then_some(()) }
        });
        let said = said.await.into_iter().map(|(run, ())| run).collect();
        (counts.into_inner(), said)
    }

    #[tokio::test]
    async fn a_node_that_does_not_say_at_once_is_asked_until_it_does() {
        let (a, b) = (run("a", 1), run("b", 1));
        assert_eq!(ask(LONG, &Silent::default(), &[(&a, 0), (&b, 20)]).await, (vec![1, 21], vec![a, b]));
    }

    #[tokio::test]
    async fn one_that_never_says_anything_is_asked_only_once_each_time_until_it_does() {
        let (silent, a) = (Silent::default(), run("a", 1));
        let short = Insistence { length: Duration::ZERO, ..LONG };
        assert_eq!(ask(short, &silent, &[(&a, usize::MAX)]).await, (vec![1], vec![]));
        assert_eq!(ask(LONG, &silent, &[(&a, usize::MAX)]).await, (vec![1], vec![]));
        assert_eq!(ask(LONG, &silent, &[(&a, 0)]).await, (vec![1], vec![a.clone()]));
        assert_eq!(ask(LONG, &silent, &[(&a, 3)]).await, (vec![4], vec![a]));
    }

    #[tokio::test]
    async fn one_that_dies_is_not_waited_for_and_one_that_comes_back_is_asked() {
        let (old, new) = (run("a", 1), run("a", 2));
        let asked = Mutex::new(Vec::new());
        let others = || match asked.lock().len() {
            0..5 => vec![old.clone(), run("b", 1)],
            5..8 => vec![new.clone()],
            _ => Vec::new(),
        };
        let silent = Silent::default();
        let said = LONG.until_all_say(others, &silent, |run| {
            asked.lock().push(run);
            async { None::<()> }
        });
        assert!(said.await.is_empty());
        assert_eq!(asked.into_inner()[6..], [new.clone(), new]);
    }
}
