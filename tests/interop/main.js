// js-libp2p against a cluster of Waystation: `make interop`, or `node main.js PATH_OF_WAYSTATION`.

import './shim.js'

// Longer than all checks take together, by far.
const MOST_SECONDS = 120

const [binary] = process.argv.slice(2)
if (!binary) {
  console.error('usage: node main.js PATH_OF_WAYSTATION')
  process.exit(64)
}

// After the shim, which they need.
const { Cluster } = await import('./cluster.js')
const { stopPeers } = await import('./peer.js')
const { checks } = await import('./checks.js')

let doing = 'the cluster starts'
const cluster = await Cluster.start(binary)
process.once('exit', () => cluster.kill())
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => cluster.end().finally(() => process.exit(1)))
setTimeout(() => failed(new Error(`all together took more than ${MOST_SECONDS} s`)), MOST_SECONDS * 1000)

try {
  await cluster.ready()
  for (const [what, check] of checks) {
    doing = what
    const began = performance.now()
    await check(cluster)
    console.log(`ok  ${what} (${Math.round(performance.now() - began)} ms)`)
  }
} catch (error) {
  await failed(error)
}
await stopPeers()
await cluster.end()
console.log(`${checks.length} passed, 0 failed`)
process.exit(0)

async function failed (error) {
  await cluster.end()
  console.error(cluster.logs())
  console.error(error)
  console.log(`FAILED  ${doing}: ${error.message}`)
  process.exit(1)
}
