// Waiting for what is to become true, never for a time to pass.

import { setTimeout as pause } from 'node:timers/promises'

const EVERY_MS = 50

// How long anything may take before its check fails.
export const PATIENCE_MS = 15_000

// A signal that gives up after that time.
export const inTime = (ms = PATIENCE_MS) => AbortSignal.timeout(ms)

// What `condition` gives once it is truthy; what it throws counts as "not yet", and is told if it stays so.
export async function until (what, condition, ms = PATIENCE_MS) {
  const end = Date.now() + ms
  let last
  while (Date.now() < end) {
    try {
      const found = await condition()
      if (found) return found
      last = undefined
    } catch (error) {
      last = error
    }
    await pause(EVERY_MS)
  }
  throw new Error(`not within ${ms / 1000} s: ${what}`, { cause: last })
}

// What `promise` gives, or an error that says what took too long.
export async function within (what, promise, ms = PATIENCE_MS) {
  let timer
  const late = new Promise((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${ms / 1000} s: ${what}`)), ms)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}
