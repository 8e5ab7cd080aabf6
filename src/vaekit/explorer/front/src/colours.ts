// Colours that people with any colour vision tell apart (Okabe and Ito, 2008), darker where they are text or points on white.

import { theme } from "./state";

const LIGHT = ["#0072b2", "#d55e00", "#007a5a", "#b0477f", "#8a6d00", "#6a8f00", "#5b4ea1", "#7a3b12", "#444c56", "#a61c3c"];
const DARK = ["#56b4e9", "#ff9b4a", "#2fc79b", "#e79cc8", "#f0e442", "#b5e061", "#b8adff", "#e0a070", "#b6c0cc", "#ff8fa3"];

export const isDark = () =>
  theme.value === "dark" || (theme.value === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);

export const palette = () => (isDark() ? DARK : LIGHT);

export const colourOf = (label: number) => palette()[label % LIGHT.length];

// Neighbouring labels have another shape, too. Each is drawn within (-1, 1) squared.
const SHAPES = ["M1 0A1 1 0 1 1-1 0A1 1 0 1 1 1 0Z", "M-.85-.85H.85V.85H-.85Z", "M0-1L1 .8H-1Z", "M0-1.1L1.1 0L0 1.1L-1.1 0Z"];
export const shapeOf = (label: number) => (label + Math.floor(label / LIGHT.length)) % SHAPES.length;
export const pathOf = (shape: number) => SHAPES[shape];

export function rgb(hex: string): [number, number, number] {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255) as [number, number, number];
}

// Magma, at nine places: black to pale yellow by evenly rising lightness.
const MAGMA = ["#000004", "#1c1044", "#4f127b", "#812581", "#b5367a", "#e55064", "#fb8761", "#fec287", "#fcfdbf"].map(rgb);

export function magma(share: number): [number, number, number] {
  const place = Math.max(0, Math.min(1, share || 0)) * (MAGMA.length - 1), low = Math.min(MAGMA.length - 2, Math.floor(place));
  return MAGMA[low].map((value, i) => value + (MAGMA[low + 1][i] - value) * (place - low)) as [number, number, number];
}
