// The shapes that several modules share. `Payload` is what `ilk.reports.payload.collect` returns.

export type Child = string | number | Node | null | undefined | false | readonly Child[];
export type Handler = (event: any) => void;
export type Styles = Record<string, string | number>;
export type Attributes = { style?: Styles } & {
  [name: string]: string | number | boolean | null | undefined | Handler | Styles;
};

export type Range = [low: number, high: number];
export type Point = [x: number, y: number];
export type Rgb = [red: number, green: number, blue: number];
/** Values by epoch or by number; null where there is none. */
export type Values = (number | null)[];

export interface Run {
  name: string;
  source: string | null;
  method: string;
  method_title: string | null;
  method_source: string | null;
  preset: string | null;
  created: string | null;
  n_images: number;
  n_clusters: number;
  clusters_used: number | null;
  n_bad: number | null;
  minutes: number | null;
  epochs: number | null;
  epochs_done: number | null;
  finished: boolean;
  image_size: number | number[] | null;
  shown: number;
  sample_note: string | null;
}

/** One entry for each image that is shown. `cluster` and `second` are numbers of clusters, `label` a code or -1. */
export interface Images {
  id: string[];
  cluster: number[];
  confidence: number[];
  second: number[];
  margin: number[];
  label: number[] | null;
  row: number[];
  x: number[] | null;
  y: number[] | null;
}

export interface Cluster {
  number: number;
  name: string | null;
  size: number;
  confidence: number | null;
  typical: number[];
  uncertain: number[];
  near: { number: number; similarity: number }[];
  labels: { code: number; count: number }[] | null;
}

export interface Sprites {
  tile: number;
  columns: number;
  per_sheet: number;
  count: number;
  sheets: string[];
}

export interface Moment {
  title: string;
  index: number[];
  x: number[];
  y: number[];
  cluster: number[] | null;
  label: number[] | null;
}

export interface Training {
  epoch: number[];
  terms: Record<string, Values>;
  loss: Values;
  effective_clusters: Values;
  confidence: Values;
  learning_rate: Values;
  images_per_second: Values;
  pairs: Record<string, Values> | null;
  messages: { epoch: number; text: string }[];
}

export interface Reliability {
  mean_confidence: Values;
  accuracy: Values;
  count: number[];
}

export interface SampleSimilarity {
  png: string;
  bounds: number[];
  count: number;
  low: number;
  high: number;
}

export interface Curve {
  k: number[];
  score: number[];
  error: number[];
  criteria: Record<string, Values>;
}

export interface Levels {
  start: number[];
  sizes: number[];
  leaf: string;
  dtype: string;
  typical: number[][];
}

export interface HowMany {
  asked: string | null;
  chosen: number | null;
  range: Range | null;
  sure: string | null;
  sentence: string | null;
  curve: Curve | null;
  levels: Levels | null;
}

export interface DuplicateGroup {
  size: number;
  index: number[];
  exact: boolean[];
  similarity: number[];
  first: boolean;
}

export interface Odd {
  groups: DuplicateGroup[];
  n_groups: number;
  n_copies: number;
  flags: { index: number; flag: string; text: string }[];
  n_flags: number;
}

export interface Payload {
  run: Run;
  scores: { key: string; name: string; shown: string; meaning: string; labels: boolean }[];
  label_names: string[] | null;
  images: Images;
  sprites: Sprites | null;
  large: { index: number[]; images: string[] } | null;
  clusters: Cluster[];
  map: { method: string; note: string; moments: Moment[] | null } | null;
  neighbours: { ranks: number[]; data: string; dtype: string; similarity: string } | null;
  confidence: { edges: number[]; counts: number[]; reliability: Reliability | null } | null;
  training: Training | null;
  affinity: {
    samples: SampleSimilarity | null;
    clusters: { matrix: number[][]; order: number[] };
  } | null;
  confusion: { matrix: number[][]; clusters: number[]; labels: number[] } | null;
  odd?: Odd | null;
  how_many?: HowMany | null;
  bad_files: { id: string; reason: string }[];
  made: {
    settings: Record<string, unknown>;
    versions: Record<string, string>;
    command: string | null;
    notes: string[];
    cite: string;
  };
  next: string[];
}

/** An image that is open: `list` is what the arrow keys go through, `about` says what the list is. */
export interface OpenImage {
  image: number;
  list: number[];
  about: string;
}

/** A cluster of a level of the tree: the stretch `from` to `to` (exclusive) of the line of finest clusters. */
export interface Stretch {
  number: number;
  from: number;
  to: number;
  size: number;
}

/** How points of one kind look: a packed colour, and the number of a shape. */
export interface Look {
  colour: number;
  shape: number;
}
