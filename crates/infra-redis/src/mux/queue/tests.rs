use std::time::Duration;

use super::*;

fn caller() -> (Waker, Instant) {
    (Waker::noop().clone(), Instant::now())
}

fn push(queue: &mut Queue, text: &[u8], answers: Answers) -> usize {
    queue.push(text.len(), answers, caller(), |out| {
        out.extend_from_slice(text)
    })
}

fn answer(queue: &mut Queue, number: i64) -> usize {
    let mut wake = Vec::new();
    assert!(queue.answer(Value::Int(number), &mut wake).is_some());
    wake.len()
}

fn poll(queue: &mut Queue, at: usize) -> Option<Done> {
    queue.poll(at, Waker::noop())
}

#[tokio::test]
async fn answers_go_to_the_callers_in_the_order_of_their_requests() {
    let mut queue = Queue::default();
    let first = push(&mut queue, b"1", Answers::One);
    let list = push(&mut queue, b"2", Answers::Many(2));
    let last = push(&mut queue, b"3", Answers::One);
    let chunk = queue.take().unwrap();
    assert_eq!((&chunk.bytes[..], chunk.requests), (&b"123"[..], 3));
    assert_eq!([1, 2, 3, 4].map(|n| answer(&mut queue, n)), [1, 0, 1, 1]);
    assert!(matches!(
        poll(&mut queue, last),
        Some(Done::One(Value::Int(4)))
    ));
    assert!(matches!(
        poll(&mut queue, first),
        Some(Done::One(Value::Int(1)))
    ));
    let Some(Done::Many(values)) = poll(&mut queue, list) else {
        panic!("no list")
    };
    assert_eq!(values, [Value::Int(2), Value::Int(3)]);
    let nobody = queue.answer(Value::Nil, &mut Vec::new());
    assert_eq!(nobody, None, "nobody waits");
}

#[tokio::test]
async fn s55_late_answer_of_an_abandoned_call_reaches_nobody() {
    let mut queue = Queue::default();
    let early = push(&mut queue, b"1", Answers::One);
    queue.abandon(early);
    let second = push(&mut queue, b"2", Answers::One);
    assert_ne!(early, second, "the place is kept for the late answer");
    assert_eq!(answer(&mut queue, 1), 0);
    assert!(poll(&mut queue, second).is_none());
    assert_eq!(answer(&mut queue, 2), 1);
    assert!(matches!(
        poll(&mut queue, second),
        Some(Done::One(Value::Int(2)))
    ));
    assert!([early, second].contains(&push(&mut queue, b"3", Answers::One)));
    assert_eq!(queue.places.len(), 2, "places are used again");
}

#[tokio::test]
async fn at_the_end_requests_that_never_left_are_told_apart() {
    let mut queue = Queue::default();
    let sent = push(&mut queue, b"1", Answers::One);
    queue.take().unwrap();
    let unsent = push(&mut queue, b"2", Answers::One);
    let mut wake = Vec::new();
    queue.end(&mut wake);
    assert_eq!(wake.len(), 2);
    assert!(matches!(poll(&mut queue, sent), Some(Done::Lost)));
    assert!(matches!(poll(&mut queue, unsent), Some(Done::NotSent)));
    assert!(queue.take().is_none() && queue.is_ended());
}

#[tokio::test]
async fn writes_are_bounded_in_size_and_calls_in_number() {
    let mut queue = Queue::default();
    let text = [0; 1024];
    while queue.has_room() {
        push(&mut queue, &text, Answers::One);
    }
    assert_eq!(queue.unsent(), (MAX_CALLS, MAX_BYTES));
    let mut requests = 0;
    while let Some(chunk) = queue.take() {
        assert!(chunk.bytes.len() <= MAX_CHUNK);
        requests += chunk.requests;
    }
    assert_eq!((requests, queue.unsent()), (MAX_CALLS, (0, 0)));
    assert!(!queue.has_room(), "their answers are still to come");
}

#[tokio::test]
async fn only_late_callers_are_woken() {
    let mut queue = Queue::default();
    let now = Instant::now();
    for millis in [5, 1, 9] {
        let deadline = now + Duration::from_millis(millis);
        let caller = (Waker::noop().clone(), deadline);
        queue.push(1, Answers::One, caller, |out| out.push(b'x'));
    }
    assert_eq!(queue.next_deadline(), Some(now + Duration::from_millis(1)));
    let mut wake = Vec::new();
    queue.wake_late(now + Duration::from_millis(6), &mut wake);
    assert_eq!(wake.len(), 2);
    assert_eq!(queue.next_deadline(), Some(now + Duration::from_millis(9)));
}

#[tokio::test]
async fn a_call_that_went_on_in_another_task_is_woken_there() {
    struct Nobody;
    impl std::task::Wake for Nobody {
        fn wake(self: std::sync::Arc<Self>) {}
    }
    let [first, second] = [(); 2].map(|()| Waker::from(std::sync::Arc::new(Nobody)));
    for late in [false, true] {
        let mut queue = Queue::default();
        let caller = (first.clone(), Instant::now());
        let at = queue.push(1, Answers::One, caller, |out| out.push(b'x'));
        assert!(queue.poll(at, &second).is_none());
        let mut wake = Vec::new();
        match late {
            true => queue.wake_late(Instant::now(), &mut wake),
            false => assert!(queue.answer(Value::Nil, &mut wake).is_some()),
        }
        let woken: Vec<bool> = wake.iter().map(|waker| waker.will_wake(&second)).collect();
        assert_eq!(woken, [true]);
    }
}

static SCRIPT: ItemScript = ItemScript::new("return {}", "5ha");

fn item(queue: &mut Queue, key: &[u8]) -> usize {
    queue.push_item(&SCRIPT, &[key, b"a"], caller())
}

fn taken(queue: &mut Queue) -> (String, usize) {
    let chunk = queue.take().unwrap();
    (String::from_utf8(chunk.bytes).unwrap(), chunk.requests)
}

#[tokio::test]
async fn items_go_out_as_one_call_and_each_caller_gets_its_own_answer() {
    let mut queue = Queue::default();
    let first = item(&mut queue, b"k1");
    push(&mut queue, b"before", Answers::One);
    let second = item(&mut queue, b"k2");
    assert_eq!(queue.unsent().0, 3);
    let call = "before*7\r\n$7\r\nEVALSHA\r\n$3\r\n5ha\r\n$1\r\n2\r\n\
                $2\r\nk1\r\n$2\r\nk2\r\n$1\r\na\r\n$1\r\na\r\n";
    assert_eq!(taken(&mut queue), (call.to_owned(), 3));
    assert_eq!((queue.sent(), queue.unsent()), (3, (0, 0)));
    answer(&mut queue, 0);
    let mut wake = Vec::new();
    let error = Value::Error("OOM".to_owned());
    let answers = Value::Array(vec![Value::Int(1), error.clone()]);
    assert_eq!((queue.answer(answers, &mut wake), wake.len()), (Some(2), 2));
    assert_eq!(queue.sent(), 0);
    let one = |done| match done {
        Some(Done::One(value)) => value,
        other => panic!("{other:?}"),
    };
    assert_eq!(one(poll(&mut queue, first)), Value::Int(1));
    assert_eq!(one(poll(&mut queue, second)), error);
}

#[tokio::test]
async fn a_script_is_told_of_a_repeated_key() {
    let mut queue = Queue::default();
    for key in [b"k1", b"k2", b"k1"] {
        item(&mut queue, key);
    }
    let (call, requests) = taken(&mut queue);
    assert!(
        call.starts_with("*10\r\n") && call.ends_with("$1\r\na\r\n$5\r\ntwice\r\n"),
        "{call:?}"
    );
    assert_eq!(requests, 3);
    // Not of one that was in an earlier call.
    for key in [b"k1", b"k2"] {
        item(&mut queue, key);
    }
    let (call, _) = taken(&mut queue);
    assert!(
        call.starts_with("*7\r\n") && !call.contains("twice"),
        "{call:?}"
    );
}

#[tokio::test]
async fn an_answer_of_the_whole_call_is_everybodys_and_a_list_of_another_length_nobodys() {
    for (answer, told) in [
        (Value::Int(0), Value::Int(0)),
        (
            Value::Error("BUSY".to_owned()),
            Value::Error("BUSY".to_owned()),
        ),
        (Value::Array(vec![Value::Int(0)]), Value::Nil),
    ] {
        let mut queue = Queue::default();
        let places = [item(&mut queue, b"k1"), item(&mut queue, b"k2")];
        taken(&mut queue);
        assert_eq!(queue.answer(answer, &mut Vec::new()), Some(2));
        for place in places {
            let done = poll(&mut queue, place);
            assert!(
                matches!(&done, Some(Done::One(value)) if *value == told),
                "{done:?}"
            );
        }
    }
}

#[tokio::test]
async fn an_item_whose_caller_gave_up_is_never_sent() {
    let mut queue = Queue::default();
    let early = item(&mut queue, b"k1");
    let second = item(&mut queue, b"k2");
    queue.abandon(early);
    let (call, requests) = taken(&mut queue);
    assert!(
        !call.contains("k1") && call.starts_with("*5\r\n"),
        "{call:?}"
    );
    assert_eq!((requests, queue.sent()), (1, 1));
    let answers = Value::Array(vec![Value::Int(7)]);
    assert_eq!(queue.answer(answers, &mut Vec::new()), Some(1));
    let done = poll(&mut queue, second);
    assert!(matches!(done, Some(Done::One(Value::Int(7)))), "{done:?}");
    assert!([early, second].contains(&item(&mut queue, b"k3")));
    assert_eq!(queue.places.len(), 2, "places are used again");
    let last = queue.group.places().next().unwrap();
    queue.abandon(last);
    assert!(queue.take().is_none(), "nothing is left to send");
    assert_eq!((queue.sent(), queue.unsent()), (0, (0, 0)));
}

#[tokio::test]
async fn a_call_has_a_bounded_number_of_items_of_one_script() {
    static OTHER: ItemScript = ItemScript::new("return {1}", "0ther");
    let mut queue = Queue::default();
    for number in 0..100 {
        item(&mut queue, format!("k{number}").as_bytes());
    }
    queue.push_item(&OTHER, &[b"k"], caller());
    let (calls, requests) = taken(&mut queue);
    assert_eq!(requests, 101);
    let counts = ["*131", "*75", "*4"].map(|count| calls.matches(count).count());
    assert_eq!((calls.matches("EVALSHA").count(), counts), (3, [1, 1, 1]));
}

#[tokio::test]
async fn items_that_wait_have_deadlines_and_an_end_like_others() {
    let mut queue = Queue::default();
    let sent = item(&mut queue, b"k1");
    taken(&mut queue);
    let unsent = item(&mut queue, b"k2");
    let mut wake = Vec::new();
    queue.wake_late(Instant::now(), &mut wake);
    assert_eq!(wake.len(), 2, "both are late");
    wake.clear();
    queue.end(&mut wake);
    assert_eq!(wake.len(), 2);
    assert!(matches!(poll(&mut queue, sent), Some(Done::Lost)));
    assert!(matches!(poll(&mut queue, unsent), Some(Done::NotSent)));
    assert!(queue.take().is_none());
}
