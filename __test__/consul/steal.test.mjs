// Locks on Consul that are taken from whoever has them.
import { testSteal } from "../servers/steal.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { consul } from "../support/servers.mjs"

watchLeaks()

testSteal(consul, { left: { timeout: 60_000 } })
