use arrow::array::{Array, AsArray, Int64Array, ListArray, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::datasource::MemTable;
use datafusion::physical_plan::displayable;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::session::SessionSettings;

/// Sorts random rows within `memory_bytes_max`, and compares with a sort in memory. Returns how
/// many files were spilled to.
fn check(rows: usize, keys: i64, memory_bytes_max: usize, order: &str) -> usize {
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let names: Vec<Option<String>> = (0..rows)
        .map(|_| random.random_range(0..=keys))
        .map(|key| (key > 0).then(|| format!("campaign {key:06}")))
        .collect();
    let numbers: Vec<i64> = (0..rows).map(|_| random.random_range(-1_000..1_000)).collect();
    let schema = Arc::new(Schema::new(vec![
        Field::new("name", DataType::Utf8, true),
        Field::new("number", DataType::Int64, true),
        Field::new("text", DataType::Utf8, true),
        Field::new("list", DataType::new_list(DataType::Int64, true), true),
    ]));
    let text = "x".repeat(100);
    let batches: Vec<RecordBatch> = (0..rows)
        .step_by(512)
        .map(|begin| {
            let range = begin..(begin + 512).min(rows);
            let columns: Vec<ArrayRef> = vec![
                Arc::new(StringArray::from_iter(names[range.clone()].iter().map(Option::as_deref))),
                Arc::new(Int64Array::from(numbers[range.clone()].to_vec())),
                Arc::new(StringArray::from_iter_values(range.clone().map(|row| format!("{row} {text}")))),
                Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(range.map(|row| Some([Some(row as i64)])))),
            ];
            RecordBatch::try_new(schema.clone(), columns).unwrap()
        })
        .collect();
    let mut expected: Vec<usize> = (0..rows).collect();
    match order {
        "name NULLS FIRST, number" => expected.sort_by_key(|row| (names[*row].clone(), numbers[*row])),
        _ => expected.sort_by_key(|row| (names[*row].is_none(), std::cmp::Reverse(names[*row].clone()))),
    }
    let context = SessionSettings { memory_bytes_max, partitions: 1, ..SessionSettings::default() }.context().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        context.register_table("rows", Arc::new(MemTable::try_new(schema, vec![batches]).unwrap())).unwrap();
        let frame = context.sql(&format!("SELECT * FROM rows ORDER BY {order}")).await.unwrap();
        let plan = frame.create_physical_plan().await.unwrap();
        assert!(displayable(plan.as_ref()).one_line().to_string().starts_with("SortedExec"), "{plan:?}");
        let sorted = datafusion::physical_plan::collect(plan.clone(), context.task_ctx()).await.unwrap();
        let mut found = Vec::new();
        for batch in &sorted {
            let (name, number) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
            let text = batch.column(2).as_string::<i32>();
            // Lists are gathered in another way.
            let lists = batch.column(3).as_list::<i32>();
            for row in 0..batch.num_rows() {
                let place: usize = text.value(row).split(' ').next().unwrap().parse().unwrap();
                assert_eq!(lists.value(row).as_primitive::<Int64Type>().values().as_ref(), [place as i64]);
                let name = name.is_valid(row).then(|| name.value(row).to_string());
                assert_eq!((&name, number.value(row)), (&names[place], numbers[place]), "a row was torn apart");
                found.push(place);
            }
        }
        assert_eq!(found.len(), rows);
        let keys = |place: &usize| (names[*place].clone(), if order.contains("number") { numbers[*place] } else { 0 });
        assert_eq!(found.iter().map(keys).collect::<Vec<_>>(), expected.iter().map(keys).collect::<Vec<_>>());
        assert_eq!(found, expected, "rows with equal keys do not keep their order");
        found.sort_unstable();
        assert_eq!(found, (0..rows).collect::<Vec<_>>(), "rows were lost or doubled");
        plan.metrics().unwrap().spill_count().unwrap()
    })
}

#[test]
fn rows_that_fit_are_sorted_in_memory() {
    assert_eq!(check(10_000, 50, 64 << 20, "name NULLS FIRST, number"), 0);
    assert_eq!(check(10_000, 50, 64 << 20, "name DESC NULLS LAST"), 0);
    check(0, 1, 64 << 20, "name NULLS FIRST, number");
}

#[test]
fn rows_that_do_not_fit_are_sorted_in_ranges() {
    assert!(check(100_000, 50, 4 << 20, "name NULLS FIRST, number") > 0);
    assert!(check(100_000, 50, 4 << 20, "name DESC NULLS LAST") > 0);
    // The ranges do not fit either.
    assert!(check(100_000, 50_000, 400 << 10, "name NULLS FIRST, number") > 16);
}

#[test]
fn rows_with_the_same_key_are_sorted_whatever_the_memory() {
    check(50_000, 0, 1 << 20, "name DESC NULLS LAST");
}
