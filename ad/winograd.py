"""3 x 3 convolutions with 2.25 times fewer multiplications, for inference on a CPU.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016), section 4.1: the
2 x 2 pixels of an output tile are ``A^T [(G g G^T) * (B^T d B)] A`` (their equation 8), where
``g`` is the 3 x 3 filter and ``d`` the 4 x 4 pixels below it.  ``*`` is elementwise; summed over
channels, for all tiles, it is 16 matrix products (their equation 12).
"""

from collections.abc import Collection

import torch
from torch import Tensor, nn

MIN_CHANNELS = 128  # measured: with 64 the additions cost more than the multiplications saved
TILES = 200  # tiles at a time, measured: fewer repack weights too often, more leave the cache

G = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
B_ROWS = ((0, 2, -1), (1, 2, 1), (2, 1, -1), (1, 3, -1))  # row i of B^T d: d[a] + sign * d[b]
A_ROWS = ((1, 1, 1, 0), (0, 1, -1, -1))


class WinogradConv2d(nn.Module):
    """Stand in for a frozen 3 x 3 convolution of stride 1 and padding 1; the same to rounding.

    Parameters
    ----------
    conv : nn.Conv2d
        Its weights are copied; its number of channels is free.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        if not _has_the_form(conv):
            raise ValueError(f"{conv} is no 3 x 3 convolution of stride 1 and padding 1")
        weight = conv.weight.detach()  # (out, in, 3, 3)
        self.out_channels, self.in_channels = weight.shape[:2]
        g = torch.tensor(G, dtype=torch.float64, device=weight.device)
        # G g G^T of all filters, (16, in, out): four axes would follow a change of memory format.
        transformed = weight.new_empty(16, self.in_channels, self.out_channels)
        for start in range(0, self.in_channels, 64):  # in parts: float64 takes twice the memory
            part = weight[:, start : start + 64].double()
            filters = part.flatten(1).t().reshape(-1, 9, self.out_channels)
            transformed[:, start : start + 64] = (torch.kron(g, g) @ filters).transpose(0, 1)
        self.register_buffer("transformed", transformed)
        bias = weight.new_zeros(self.out_channels) if conv.bias is None else conv.bias
        self.register_buffer("bias", bias.detach().clone())

    def workspace_bytes(self, shape: tuple[int, int, int, int]) -> int:
        """Return the bytes that ``forward`` allocates beside its result.

        Parameters
        ----------
        shape : tuple of int
            The input's (n, in, h, w).
        """
        n, _, height, width = shape
        rows, columns = _tiles(height, width)
        lines = (3 * rows + 2) * (2 * columns + 2)  # of ``padded`` and ``lines`` together
        image = (lines + 4 * rows * columns) * self.in_channels
        image += 5 * rows * columns * self.out_channels
        values = min(n, _images_at_a_time(rows, columns)) * image
        if height % 2 or width % 2:
            values += n * 4 * rows * columns * self.out_channels
        return values * self.transformed.element_size()

    def forward(self, images: Tensor) -> Tensor:
        """Convolve maps.

        Parameters
        ----------
        images : Tensor, shape (n, in, h, w)
            In any memory layout.

        Returns
        -------
        Tensor, shape (n, out, h, w)
            In channels-last layout.
        """
        n, _, height, width = images.shape
        rows, columns = _tiles(height, width)
        step = _images_at_a_time(rows, columns)
        new, most = images.new_empty, min(n, step)
        # Channels last throughout.  What lies around the image stays zero: it is the padding.
        padded = images.new_zeros(most, 2 * rows + 2, 2 * columns + 2, self.in_channels)
        lines = new(most, rows, 2 * columns + 2, self.in_channels)
        tiles = new(4 * most * rows * columns * self.in_channels)
        products = new(4 * most * rows * columns * self.out_channels)
        sums = new(most, rows, columns, self.out_channels)
        output = new(n, rows, 2, columns, 2, self.out_channels)
        for start in range(0, n, step):
            part = images[start : start + step].permute(0, 2, 3, 1)
            k = len(part)
            padded[:k, 1 : height + 1, 1 : width + 1] = part
            size = 4 * k * rows * columns
            self._convolve(
                padded[:k],
                lines[:k],
                tiles[: size * self.in_channels].view(4, k, rows, columns, -1),
                products[: size * self.out_channels].view(4, k, rows, columns, -1),
                sums[:k],
                output[start : start + k],
            )
        output = output.view(n, 2 * rows, 2 * columns, self.out_channels)[:, :height, :width]
        # Copies where the last row or column of an odd map was cut off.
        return output.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)

    def _convolve(
        self,
        padded: Tensor,
        lines: Tensor,
        tiles: Tensor,
        products: Tensor,
        sums: Tensor,
        output: Tensor,
    ) -> None:
        """Fill ``output``, one row of the 4 x 4 products at a time: the scratch stays in cache.

        Parameters
        ----------
        padded : Tensor, shape (k, 2 * rows + 2, 2 * columns + 2, in)
            The images with their padding; ``rows`` and ``columns`` count tiles.
        lines : Tensor, shape (k, rows, 2 * columns + 2, in)
            Scratch: a row of ``B^T d``, neighbouring tiles sharing columns.
        tiles : Tensor, shape (4, k, rows, columns, in)
            Scratch: a row of ``B^T d B``.
        products : Tensor, shape (4, k, rows, columns, out)
            Scratch: a row of the products.
        sums : Tensor, shape (k, rows, columns, out)
            Scratch: a column of a row of products times ``A``.
        output : Tensor, shape (k, rows, 2, columns, 2, out)
        """
        height, width = 2 * tiles.shape[2], 2 * tiles.shape[3]
        d = [padded[:, i : i + height : 2] for i in range(4)]
        line = [lines[:, :, j : j + width : 2] for j in range(4)]
        for i, (first, second, sign) in enumerate(B_ROWS):
            torch.add(d[first], d[second], alpha=sign, out=lines)
            for j, (left, right, column_sign) in enumerate(B_ROWS):
                torch.add(line[left], line[right], alpha=column_sign, out=tiles[j])
            weights = self.transformed[4 * i : 4 * i + 4]
            torch.bmm(tiles.flatten(1, 3), weights, out=products.flatten(1, 3))
            for column, signs in enumerate(A_ROWS):
                a, b, c = products[column : column + 3]
                torch.add(a, b, alpha=signs[column + 1], out=sums)
                sums.add_(c, alpha=signs[column + 2])
                for row, row_signs in enumerate(A_ROWS):
                    target = output[:, :, row, :, column]
                    if i == row:  # the first product of this row of output
                        torch.add(sums, self.bias, out=target)
                    elif row_signs[i]:
                        target.add_(sums, alpha=row_signs[i])


def use_winograd(model: nn.Module, keep: Collection[str] = ()) -> int:
    """Replace, in place, the convolutions that are faster so; a second call finds none left.

    They are plain `nn.Conv2d` of 3 x 3, stride 1 and padding 1, neither grouped nor dilated, with
    at least `MIN_CHANNELS` channels in and out.

    Parameters
    ----------
    keep : collection of str
        Names of modules to leave as they are, such as those with hooks, which would be lost.

    Returns
    -------
    int
        How many were replaced.
    """
    chosen = [
        name  # no module, so that each goes as soon as it is replaced
        for name, module in model.named_modules()
        if name
        and name not in keep
        and type(module) is nn.Conv2d  # a subclass may compute something else
        and _has_the_form(module)
        and min(module.in_channels, module.out_channels) >= MIN_CHANNELS
    ]
    for name in chosen:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, WinogradConv2d(model.get_submodule(name)))
    return len(chosen)


def _has_the_form(conv: nn.Conv2d) -> bool:
    """Tell whether it is 3 x 3, of stride 1 and padding 1 (zeros), not grouped, not dilated."""
    return (
        conv.kernel_size == (3, 3)
        and conv.stride == (1, 1)
        and conv.padding == (1, 1)
        and conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.padding_mode == "zeros"
    )


def _tiles(height: int, width: int) -> tuple[int, int]:
    """Return the rows and columns of 2 x 2 tiles that cover a map."""
    return -(-height // 2), -(-width // 2)


def _images_at_a_time(rows: int, columns: int) -> int:
    """Return how many images make about `TILES` tiles; neither batch nor threads matter."""
    return max(1, TILES // max(1, rows * columns))
