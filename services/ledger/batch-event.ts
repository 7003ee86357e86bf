/** An event of the batch that is being written, from 0: its number is known after the commit. */
export interface BatchEvent {
  readonly ordinal: number;
}
