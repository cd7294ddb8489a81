import Mutex from "./index.js"

const { LockManager, MutexError } = Mutex

export { LockManager, Mutex, MutexError }
export default Mutex
