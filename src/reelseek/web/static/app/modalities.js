// Kinds of evidence in words that anyone reads.

const WORDS = {
  appearance: "What it looks like",
  object: "Things in view",
  scene: "Places",
  motion: "Movement",
  face: "Faces",
  audio: "Sounds",
  speech: "What is said",
  ocr: "Text on screen",
  text: "Captions",
  name: "Names of files",
  captions: "Captions",
};
const SEEN = ["appearance", "object", "scene", "motion", "face"];

/** @param {string} modality or an expert */
export const modalityWords = (modality) => (Object.hasOwn(WORDS, modality) ? WORDS[modality] : modality);

/**
 * What the box promises: no more than the experts of the library perceive.
 * @param {string[]} modalities
 */
export function promise(modalities) {
  const senses = [
    modalities.some((modality) => SEEN.includes(modality)) && "see",
    modalities.some((modality) => modality === "audio" || modality === "speech") && "hear",
    modalities.includes("ocr") && "read",
  ].filter(Boolean);
  if (!senses.length) return "What are you looking for?";
  return `What do you want to ${senses.length > 1 ? `${senses.slice(0, -1).join(", ")} or ${senses[senses.length - 1]}` : senses[0]}?`;
}

/** What stands for speech where no recogniser was at hand. */
export const DETECTED = "someone is speaking";
