// Locks on etcd that are taken from whoever has them.
import { testSteal } from "../servers/steal.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { etcd } from "../support/servers.mjs"

watchLeaks()

testSteal(etcd, { left: { timeout: 60_000 } })
