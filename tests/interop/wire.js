// As much of protobuf as the messages of relays need, written out so that nothing but the relay's own bytes is believed.

// Numbers are varints (type 0), all else is bytes (type 2); `undefined` is left out.
export function encode (fields) {
  const parts = Object.entries(fields).filter(([, value]) => value !== undefined).map(([number, value]) => {
    if (typeof value === 'number') return Buffer.concat([varint(number << 3), varint(value)])
    const bytes = typeof value === 'string' ? Buffer.from(value) : Buffer.from(value.subarray())
    return Buffer.concat([varint((number << 3) | 2), varint(bytes.length), bytes])
  })
  return Buffer.concat(parts)
}

// The fields of a message by their numbers, each as the list of its values.
export function decode (message) {
  const bytes = Buffer.from(message.subarray())
  const fields = {}
  for (let at = 0; at < bytes.length;) {
    let tag, value
    ;[tag, at] = readVarint(bytes, at)
    ;[value, at] = readVarint(bytes, at)
    const type = tag & 7
    if (type !== 0 && type !== 2) throw new Error(`a field of type ${type}`)
    if (type === 2) {
      if (at + value > bytes.length) throw new Error('a field is cut off')
      ;[value, at] = [bytes.subarray(at, at + value), at + value]
    }
    ;(fields[tag >>> 3] ??= []).push(value)
  }
  return fields
}

function varint (number) {
  const bytes = []
  for (; number > 127; number = Math.floor(number / 128)) bytes.push((number % 128) | 128)
  return Buffer.from([...bytes, number])
}

function readVarint (bytes, at) {
  for (let number = 0, factor = 1; at < bytes.length; factor *= 128) {
    const byte = bytes[at++]
    number += (byte & 127) * factor
    if (byte < 128) return [number, at]
  }
  throw new Error('a number is cut off')
}
