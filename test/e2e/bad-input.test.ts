/** Bad input for every RPC on the embedded default. */
import { startDaemon } from "../support/daemon.ts"
import { badInputSuite } from "./bad-input.ts"

badInputSuite(() => startDaemon())
