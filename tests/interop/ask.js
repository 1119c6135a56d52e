// One request to a relay on a stream of its own, and its answer: each has its length before it.

import { lpStream } from '@libp2p/utils'
import { inTime } from './until.js'
import { decode, encode } from './wire.js'

// The fields of what `connection`'s peer answers to a message of these fields.
export async function ask (connection, protocol, fields) {
  const signal = inTime()
  const stream = await connection.newStream(protocol, { signal })
  try {
    const messages = lpStream(stream)
    await messages.write(encode(fields), { signal })
    const answer = decode(await messages.read({ signal }))
    await stream.close({ signal })
    return answer
  } catch (error) {
    stream.abort(error)
    throw error
  }
}
