// A store: named values, and functions that run when one of them changes.

/**
 * @template {object} S
 * @param {S} initial
 */
export function createStore(initial) {
  const values = { ...initial };
  /** @type {Map<keyof S, ((value: any) => void)[]>} */
  const followers = new Map();
  return {
    /**
     * @template {keyof S} K
     * @param {K} key
     * @returns {S[K]}
     */
    get(key) {
      return values[key];
    },

    /**
     * @template {keyof S} K
     * @param {K} key
     * @param {S[K]} value an object counts as changed unless it is the very same one
     */
    set(key, value) {
      if (Object.is(values[key], value)) return;
      values[key] = value;
      followers.get(key)?.forEach((act) => act(value));
    },

    /**
     * Calls `act` after each change of the value, in the order in which followers came.
     * @template {keyof S} K
     * @param {K} key
     * @param {(value: S[K]) => void} act
     */
    follow(key, act) {
      followers.set(key, [...(followers.get(key) ?? []), act]);
    },
  };
}
