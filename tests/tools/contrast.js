// What tests/tools/page.rs asks of a page: the lowest contrast of text and of bars, each with what has it, and how many of both there are.
(() => {
    const parts = colour => colour.match(/[\d.]+/g).map(Number);
    const channel = value => value <= 10 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4;
    const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    const ground = element => {
        for (; element; element = element.parentElement) {
            const colour = parts(getComputedStyle(element).backgroundColor);
            if (colour.length === 3 || colour[3] === 1) return colour;
        }
        throw 'no ground';
    };
    const contrast = (colour, element) => {
        const [low, high] = [luminance(parts(colour)), luminance(ground(element))].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
    };
    const texts = [], shapes = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const [text, element] = [walker.currentNode.data.trim(), walker.currentNode.parentElement];
        if (text && !element.closest('svg')) texts.push([contrast(getComputedStyle(element).color, element), text]);
    }
    for (const bar of document.querySelectorAll('svg rect')) {
        const { fill, stroke } = getComputedStyle(bar);
        shapes.push([contrast(fill === 'none' ? stroke : fill, bar), bar.getAttribute('class')]);
    }
    const least = list => list.sort((a, b) => a[0] - b[0])[0];
    return { text: least(texts), shape: least(shapes), texts: texts.length, shapes: shapes.length };
})()
