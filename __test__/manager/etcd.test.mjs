// time limit: 600 s
import { after } from "node:test"
import { watchLeaks } from "../support/leaks.mjs"
import { etcd } from "../support/servers.mjs"
import { PATIENT } from "../conformance/world.mjs"
import { suite } from "./suite.mjs"

watchLeaks({ grace: 120_000 })
const server = await etcd(after, { password: true })
suite({ name: "etcd", url: (id, params) => server.url(id, { ...PATIENT, ...params }), listsAll: true, steals: true })
