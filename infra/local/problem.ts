/** A failure that a person can mend: its message says what and how, and is printed without a stack trace. */
export class Problem extends Error {}
