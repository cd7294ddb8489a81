// What a program is told while etcd is away.
import { testOutages } from "../servers/outages.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { etcd } from "../support/servers.mjs"

watchLeaks()

testOutages(etcd)
