/**
 * What can be done with a widget while the layout is edited.
 *
 * The handle takes the arrow keys: alone they move, with Shift they resize, Delete removes. The
 * buttons do the same with single clicks, for those who cannot drag.
 */
import { Icon, type IconName } from "../shell/Icon";

interface Props {
  title: string;
  isFirst: boolean;
  isLast: boolean;
  onMove: (by: number) => void;
  onResize: (width: number, height: number) => void;
  onRemove: () => void;
  onDragStart: (event: PointerEvent) => void;
}

export function EditBar({ title, isFirst, isLast, onMove, onResize, onRemove, onDragStart }: Props) {
  const onKeyDown = (event: KeyboardEvent) => {
    const steps: Record<string, [number, number]> = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
    };
    const step = steps[event.key];
    if (step && event.shiftKey) onResize(step[0], step[1]);
    else if (step) onMove(step[0] + step[1]);
    else if (event.key === "Delete" || event.key === "Backspace") onRemove();
    else return;
    event.preventDefault();
  };
  return (
    <div class="edit-bar" role="toolbar" aria-label={`Arrange ${title}`}>
      <button
        type="button"
        class="grip"
        aria-label={`Move or resize ${title}`}
        aria-describedby="grip-help"
        onKeyDown={onKeyDown}
        onPointerDown={onDragStart}
      >
        <Icon name="grip" />
      </button>
      <EditButton icon="left" label={`Move ${title} earlier`} isDisabled={isFirst} onClick={() => onMove(-1)} />
      <EditButton icon="right" label={`Move ${title} later`} isDisabled={isLast} onClick={() => onMove(1)} />
      <EditButton icon="narrower" label={`Make ${title} narrower`} onClick={() => onResize(-1, 0)} />
      <EditButton icon="wider" label={`Make ${title} wider`} onClick={() => onResize(1, 0)} />
      <EditButton icon="shorter" label={`Make ${title} shorter`} onClick={() => onResize(0, -1)} />
      <EditButton icon="taller" label={`Make ${title} taller`} onClick={() => onResize(0, 1)} />
      <EditButton icon="trash" label={`Remove ${title}`} onClick={onRemove} />
    </div>
  );
}

interface ButtonProps {
  icon: IconName;
  label: string;
  isDisabled?: boolean;
  onClick: () => void;
}

function EditButton({ icon, label, isDisabled = false, onClick }: ButtonProps) {
  return (
    <button type="button" aria-label={label} title={label} aria-disabled={isDisabled} onClick={onClick}>
      <Icon name={icon} />
    </button>
  );
}
