//! What was promised on the wire stays: `proto/descriptors.txt` lists every message, field, value and call that ever
//! was, one a line, and nothing of it may change. What is taken away must be reserved; what is new must be listed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

const PROMISED: &str = "proto/descriptors.txt";

/// Set to write what is new into the list, once nothing promised is broken.
const UPDATE: &str = "UPDATE_DESCRIPTORS";

/// What there is: for each name what it is, and which numbers and names are reserved where.
#[derive(Debug, Default)]
struct Shapes {
    lines: BTreeMap<String, String>,
    reserved: BTreeSet<String>,
}

#[test]
fn nothing_that_was_promised_is_broken() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PROMISED);
    let promised = read(&fs::read_to_string(&path).unwrap_or_default());
    let shapes = Shapes::of(current());
    let broken = broken(&promised, &shapes);
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
    let new: Vec<_> = shapes.lines.iter().filter(|(name, _)| !promised.contains_key(*name)).collect();
    if std::env::var_os(UPDATE).is_some() {
        let mut all = promised.clone();
        all.extend(new.into_iter().map(|(name, shape)| (name.clone(), shape.clone())));
        let lines: Vec<_> = all.iter().map(|(name, shape)| format!("{name} = {shape}\n")).collect();
        return fs::write(path, lines.concat()).unwrap();
    }
    assert!(new.is_empty(), "not in {PROMISED}, run this test with {UPDATE}=1 to add:\n{new:#?}");
}

#[test]
fn what_breaks_a_promise_is_noticed() {
    let promised = read("a.M = message\na.M.f = 1 optional string\na.M.g = 2 optional int32\na.S.Get = a.Q -> a.R\n");
    let told = |field: &str, reserved: &[&str], call: &str| {
        let lines = [("a.M", "message"), ("a.M.f", field), ("a.S.Get", call)];
        let lines = lines.iter().map(|(name, shape)| ((*name).to_owned(), (*shape).to_owned())).collect();
        let reserved = reserved.iter().map(|text| (*text).to_owned()).collect();
        broken(&promised, &Shapes { lines, reserved }).len()
    };
    let (field, call, both) = ("1 optional string", "a.Q -> a.R", ["a.M 2", "a.M g"]);
    assert_eq!(told(field, &both, call), 0);
    assert_eq!(told(field, &both[..1], call), 1, "its name may be used again");
    assert_eq!(told(field, &both[1..], call), 1, "its number may be used again");
    assert_eq!(told(field, &[], call), 1);
    assert_eq!(told("1 optional bytes", &both, call), 1, "another type");
    assert_eq!(told("3 optional string", &both, call), 1, "another number");
    assert_eq!(told("1 repeated string", &both, call), 1, "more of them");
    assert_eq!(told(field, &both, "a.Q -> stream a.R"), 1);
    let none = Shapes::default();
    assert_eq!(broken(&promised, &none).len(), 4, "messages and calls are never taken away");
}

fn broken(promised: &BTreeMap<String, String>, shapes: &Shapes) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, shape) in promised {
        match shapes.lines.get(name) {
            Some(now) if now == shape => {}
            Some(now) => broken.push(format!("{name} was {shape:?} and is {now:?}")),
            None => {
                let (parent, own) = name.rsplit_once('.').unwrap();
                let number = shape.split(' ').next().unwrap();
                let reserves = |what: &str| shapes.reserved.contains(&format!("{parent} {what}"));
                let is_numbered = number.parse::<i32>().is_ok();
                if !is_numbered {
                    broken.push(format!("{name} ({shape}) is gone"));
                } else if !reserves(number) || !reserves(own) {
                    broken.push(format!("{name} ({shape}) is gone: reserve {number} and \"{own}\" in {parent}"));
                }
            }
        }
    }
    broken
}

fn read(text: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| line.split_once(" = ").map(|(name, shape)| (name.to_owned(), shape.to_owned()));
    text.lines().map(|line| pair(line).unwrap_or_else(|| panic!("{PROMISED}: {line}"))).collect()
}

fn current() -> FileDescriptorSet {
    let bytes: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/protos.bin"));
    prost::Message::decode(bytes).unwrap()
}

impl Shapes {
    fn of(set: FileDescriptorSet) -> Self {
        let mut shapes = Self::default();
        for file in set.file {
            let package = file.package().to_owned();
            file.message_type.iter().for_each(|message| shapes.message(&package, message));
            file.enum_type.iter().for_each(|one| shapes.enumeration(&package, one));
            for service in &file.service {
                for call in &service.method {
                    let stream = |on: bool| if on { "stream " } else { "" };
                    let (from, to) = (stream(call.client_streaming()), stream(call.server_streaming()));
                    let (input, output) = (unrooted(call.input_type()), unrooted(call.output_type()));
                    let name = format!("{package}.{}.{}", service.name(), call.name());
                    shapes.lines.insert(name, format!("{from}{input} -> {to}{output}"));
                }
            }
        }
        assert!(shapes.lines.len() > 100, "only {} shapes found", shapes.lines.len());
        shapes
    }

    fn message(&mut self, parent: &str, message: &DescriptorProto) {
        let name = format!("{parent}.{}", message.name());
        self.lines.insert(name.clone(), "message".to_owned());
        for field in &message.field {
            self.lines.insert(format!("{name}.{}", field.name()), field_shape(field, message));
        }
        for range in &message.reserved_range {
            let numbers = range.start()..range.end();
            self.reserved.extend(numbers.map(|number| format!("{name} {number}")));
        }
        self.reserved.extend(message.reserved_name.iter().map(|own| format!("{name} {own}")));
        message.nested_type.iter().for_each(|inner| self.message(&name, inner));
        message.enum_type.iter().for_each(|inner| self.enumeration(&name, inner));
    }

    fn enumeration(&mut self, parent: &str, one: &EnumDescriptorProto) {
        let name = format!("{parent}.{}", one.name());
        self.lines.insert(name.clone(), "enum".to_owned());
        for value in &one.value {
            self.lines.insert(format!("{name}.{}", value.name()), format!("{} value", value.number()));
        }
        for range in &one.reserved_range {
            // Of enumerations the end belongs to the range.
            let numbers = range.start()..=range.end();
            self.reserved.extend(numbers.map(|number| format!("{name} {number}")));
        }
        self.reserved.extend(one.reserved_name.iter().map(|own| format!("{name} {own}")));
    }
}

fn field_shape(field: &FieldDescriptorProto, message: &DescriptorProto) -> String {
    let label = match field.label() {
        Label::Repeated => "repeated",
        Label::Required => "required",
        Label::Optional => "optional",
    };
    let kind = match field.r#type() {
        Type::Message | Type::Enum => unrooted(field.type_name()).to_owned(),
        kind => kind.as_str_name().trim_start_matches("TYPE_").to_ascii_lowercase(),
    };
    let choice = field.oneof_index.and_then(|index| message.oneof_decl.get(usize::try_from(index).ok()?));
    let choice = choice.map_or_else(String::new, |choice| format!(" in {}", choice.name()));
    format!("{} {label} {kind}{choice}", field.number())
}

fn unrooted(name: &str) -> &str {
    name.trim_start_matches('.')
}
